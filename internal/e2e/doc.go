// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the program as it is run: processes of "evensong serve", each in a network namespace of its own,
// cables that are pulled, processes that are killed and stopped, and clients that write down what they see. What they
// wrote is judged by internal/check; how long everything took is compared with the figures that we promise.
//
// The tests run on Linux and only when asked, because they take minutes and the namespaces need root:
//
//	EVENSONG_E2E=1 go test -v -count=1 ./internal/e2e
//
// Without root, or with EVENSONG_E2E=loopback, the daemons share the loopback interface: crashes, stops and everything
// about clients is tested, cables are not, and the tests that need them say that they were skipped. Figures come as a
// table at the end, which needs -v to be seen.
//
//	EVENSONG_E2E_RUNS    how often each time is measured; the median counts (default 5)
//	EVENSONG_E2E_CALM    how long no view may change beside busy processors (default 20s)
//	EVENSONG_E2E_CYCLES  how many random faults are survived (default 10)
//	EVENSONG_E2E_SEED    of the random faults (default: another one each time; it is printed)
//	EVENSONG_E2E_LOG     log level of the daemons
//	EVENSONG_E2E_KEY     a file with a cluster's key: all daemons seal their datagrams
//	EVENSONG_E2E_BIN     a program to test in place of one built from this source
//	EVENSONG_E2E_KEEP    a directory in which logs and histories are kept; else those of failed tests are kept in /tmp
//
// # What is made and removed
//
// Every namespace is named evse2e-<process>-<cluster>-<daemon>, and the switch between them is a pair of bridges in a
// namespace of its own, so nothing appears in the system's own namespace. Daemons are children that die with the test
// process. What a run that was killed has left behind is removed by the next one.
package e2e
