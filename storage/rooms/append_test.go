package rooms

import (
	"fmt"
	"slices"
	"testing"
)

func TestNumberList(t *testing.T) {
	for _, nums := range [][]int64{nil, {7}, {1, -2, 1 << 62}} {
		if got, err := numbersIn(numberList(nums)); err != nil || !slices.Equal(got, nums) {
			t.Errorf("%v: got %v, %v", nums, got, err)
		}
	}
	for _, bad := range []string{"", "[", "]", "1,2", "[1,]", "[x]", "[99999999999999999999]"} {
		if got, err := numbersIn(bad); err == nil {
			t.Errorf("%q: got %s, want an error", bad, fmt.Sprint(got))
		}
	}
}
