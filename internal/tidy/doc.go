// SPDX-License-Identifier: Apache-2.0

// Package tidy holds tests about the repository itself: who imports whom, whether the protocol packages are pure,
// formatting, licence lines, links between documents, and whether what the code cites is written down.
//
// The rules are the design's; a test is the only form in which a rule survives the next hundred changes. The policy of
// imports is the table in policy_test.go, and changing it needs a record in docs/decisions.
//
// There is nothing here to import. Every check is a function from a set of files to a list of problems, so that the
// tests can also hand it a few bad lines and see it object. Files are parsed, never built: what is behind a build tag
// for another system is judged too, and the whole takes a second.
package tidy
