// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"evensong/internal/admin"
)

// TestOneOfEach prints a status in which every number is one, and looks for "1 daemons" and the like.
func TestOneOfEach(t *testing.T) {
	s := admin.Status{Slow: admin.Slow{Daemon: "b", Sessions: make([]admin.Session, 1)}, Partition: &admin.PartitionState{}, Draining: &admin.DrainState{}, TLS: &admin.TLSState{Expires: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}}
	r := &Report{Status: &s, Delta: &Delta{}, when: s.TLS.Expires.Add(-25 * time.Hour)}
	ones(reflect.ValueOf(r).Elem())
	var b strings.Builder
	if err := writeStatus(&b, r); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "1 daemon in 1 segment,") {
		t.Errorf("no number of daemons in\n%s", b.String())
	}
	for _, bad := range regexp.MustCompile(`\b1 [a-z]+s\b`).FindAllString(b.String(), -1) {
		t.Errorf("%q in\n%s", bad, b.String())
	}
}

func ones(v reflect.Value) {
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint16, reflect.Uint64:
		v.SetUint(1)
	case reflect.Pointer:
		if !v.IsNil() {
			ones(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			ones(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				ones(v.Field(i))
			}
		}
	default: // words
	}
}
