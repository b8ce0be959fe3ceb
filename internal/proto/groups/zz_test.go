package groups
import "testing"
func TestZZ(t *testing.T) { for s := range uint64(9000) { runWorld(t, 5000+s, 400+int(s%5)*300) } }
