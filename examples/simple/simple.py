# SPDX-License-Identifier: Apache-2.0
"""The simplest program possible: it joins a group, sends one line to it, and prints what comes until a message came.

    python3 examples/simple/simple.py [ADDRESS [NAME]]

ADDRESS is a daemon's: port (this machine), port@host, host:port or unix:/path; 4803 if there is none. "evensong dev" runs
a daemon at 4803. Without NAME the daemon invents one.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "clients", "python"))

import evensong  # noqa: E402


def main(address: str = "", name: str = "") -> None:
    with evensong.connect(address, name) as session:
        session.join("simple_group")
        session.multicast(input("Your line: ").encode(), "simple_group")
        for event in session:
            print(event)
            if isinstance(event, evensong.Message):
                break


if __name__ == "__main__":
    args = sys.argv[1:]
    if any(a in ("-h", "--help") for a in args):
        print(__doc__)
    elif len(args) > 2 or any(a.startswith("-") for a in args):
        sys.exit("simple: want at most an address and a name; --help says more")
    else:
        try:
            main(*args)
        except (evensong.Error, EOFError) as e:  # a line for people; what is wrong in the program keeps its traceback
            sys.exit("simple: %s" % ("no line to send" if isinstance(e, EOFError) else e))
        except KeyboardInterrupt:
            sys.exit(130)
