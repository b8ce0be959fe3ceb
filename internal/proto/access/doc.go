// SPDX-License-Identifier: Apache-2.0

// Package access decides what a client may do, as pure functions of what is known about it: rules that an operator wrote,
// and the two lists by which the methods IP and PWORD admit clients are read elsewhere and only judged here (Networks).
//
// Rules are judged in the order in which they stand. The first one whose conditions all hold decides; if none does, the
// default of the Rules decides. There are six points at which a decision is made: opening a session, joining and leaving
// a group, sending to a private name and to a group, and seeing a group and its members.
//
// What of a rule concerns the client itself does not change while its session lasts. So a session takes a Judge, which
// has done with those conditions, and only compares names of groups from then on, without allocation. A nil *Judge
// permits everything: it is what all sessions have while there are no rules, and costs one comparison.
//
// Everything here but a Judge is immutable after it was made and may be shared.
package access
