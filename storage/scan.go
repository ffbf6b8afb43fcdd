package storage

import (
	"fmt"
	"reflect"
)

// cell is one value of a row as the engine gave it: nil, string (still escaped), int64, float64, bool
// or []byte. The bytes may be overwritten by the next row.
type cell any

// assign stores c where dest points to.
func assign(dest any, c cell) error {
	switch d := dest.(type) {
	case *string:
		if s, ok := c.(string); ok {
			*d = unescapeText(s)
			return nil
		}
	case *int64:
		if n, ok := c.(int64); ok {
			*d = n
			return nil
		}
	case *[]byte:
		return assignBytes(d, c)
	case *any:
		*d = ownedCell(c)
		return nil
	}
	v := reflect.ValueOf(dest)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("storage: scan into %T, want a pointer", dest)
	}
	return assignKind(v.Elem(), c)
}

// assignBytes copies, since drivers use their buffers again for the next row.
func assignBytes(d *[]byte, c cell) error {
	switch c := c.(type) {
	case nil:
		*d = nil
	case string:
		*d = []byte(unescapeText(c))
	case []byte:
		*d = append(make([]byte, 0, len(c)), c...)
	default:
		return fmt.Errorf("storage: scan %T into []byte", c)
	}
	return nil
}

// ownedCell is c with nothing that the next row overwrites.
func ownedCell(c cell) any {
	switch c := c.(type) {
	case string:
		return unescapeText(c)
	case []byte:
		return append(make([]byte, 0, len(c)), c...)
	default:
		return c
	}
}

// assignKind goes by the kind of what is scanned into, so that distinct types of text and numbers need no methods.
func assignKind(v reflect.Value, c cell) error {
	if c == nil {
		return assignNull(v)
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if err := assign(p.Interface(), c); err != nil {
			return err
		}
		v.Set(p)
		return nil
	case reflect.String:
		if s, ok := c.(string); ok {
			v.SetString(unescapeText(s))
			return nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if n, ok := c.(int64); ok && !v.OverflowInt(n) {
			v.SetInt(n)
			return nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if n, ok := c.(int64); ok && n >= 0 && !v.OverflowUint(uint64(n)) {
			v.SetUint(uint64(n))
			return nil
		}
	case reflect.Bool:
		if b, ok := cellBool(c); ok {
			v.SetBool(b)
			return nil
		}
	case reflect.Float32, reflect.Float64:
		if f, ok := cellFloat(c); ok {
			v.SetFloat(f)
			return nil
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return assignBytes(v.Addr().Convert(reflect.TypeFor[*[]byte]()).Interface().(*[]byte), c)
		}
	}
	return fmt.Errorf("storage: scan %T into %s", c, v.Type())
}

// assignNull takes NULL where there is a value for nothing: anywhere else it would look like a value that was stored.
func assignNull(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Interface:
		v.SetZero()
		return nil
	}
	return fmt.Errorf("storage: scan NULL into %s", v.Type())
}

// cellBool takes 0 and 1 too, as SQLite gives for an expression.
func cellBool(c cell) (value, ok bool) {
	switch c := c.(type) {
	case bool:
		return c, true
	case int64:
		return c == 1, c == 0 || c == 1
	}
	return false, false
}

// cellFloat takes whole numbers too, as SQLite stores a float without a fraction as one.
func cellFloat(c cell) (float64, bool) {
	switch c := c.(type) {
	case float64:
		return c, true
	case int64:
		return float64(c), true
	}
	return 0, false
}
