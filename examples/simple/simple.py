# SPDX-License-Identifier: Apache-2.0
"""The simplest program possible: it joins a group, sends one line to it, and prints what comes until a message came.

    python3 examples/simple/simple.py [ADDRESS]        a daemon's address; 4803 if there is none
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "clients", "python"))

import evensong  # noqa: E402

with evensong.connect(sys.argv[1] if len(sys.argv) > 1 else "") as session:
    session.join("simple_group")
    session.multicast(input("Your line: ").encode(), "simple_group")
    for event in session:
        print(event)
        if isinstance(event, evensong.Message):
            break
