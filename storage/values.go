package storage

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
)

// set is a parameter that holds the JSON text of a set: already escaped.
type set string

// Set makes the parameter for a set of identifiers:
//
//	event_id IN (SELECT key FROM json_each($1))
func Set[T ~string](ids ...T) any {
	b := []byte{'{'}
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		key, _ := json.Marshal(escapeText(string(id))) // valid UTF-8: cannot fail
		b = append(append(b, key...), `:0`...)
	}
	return set(append(b, '}'))
}

// Numbers makes the parameter for a set of numbers:
//
//	position IN (SELECT CAST(key AS BIGINT) FROM json_each($1))
func Numbers[T ~int64](numbers ...T) any {
	b := []byte{'{'}
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = strconv.AppendInt(b, int64(n), 10)
		b = append(b, `":0`...)
	}
	return set(append(b, '}'))
}

// arguments returns args as argument does, in a slice of its own.
func arguments(args []any) ([]any, error) {
	out := make([]any, len(args))
	for i, v := range args {
		n, err := argument(v)
		if err != nil {
			return nil, fmt.Errorf("storage: argument $%d: %w", i+1, err)
		}
		out[i] = n
	}
	return out, nil
}

// argument returns v as one of string (escaped), int64, float64, bool, []byte, nil or Ref.
func argument(v any) (any, error) {
	switch v := v.(type) {
	case nil, int64, bool, []byte, Ref, float64:
		return v, nil
	case string:
		return escapeText(v), nil
	case set:
		return string(v), nil
	case int:
		return int64(v), nil
	case Position:
		return int64(v), nil
	}
	return argumentOfKind(reflect.ValueOf(v))
}

// argumentOfKind takes the distinct types of text and numbers by their kind. What has no kind here is a mistake of the
// caller, told when the item is filled and not when its group fails.
func argumentOfKind(v reflect.Value) (any, error) {
	switch v.Kind() {
	case reflect.String:
		return escapeText(v.String()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return int64(v.Uint()), nil
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Float32, reflect.Float64:
		return v.Float(), nil
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return argument(v.Elem().Interface())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("a %s cannot be stored", v.Type())
}

// columnValue returns v as argument does, and checks that it fits the column.
func columnValue(t columnType, v any) (any, error) {
	if b, ok := v.([]byte); ok && t == textColumn && b != nil {
		return escapeText(string(b)), nil
	}
	n, err := argument(v)
	if err != nil {
		return nil, err
	}
	ok := false
	switch n := n.(type) {
	case nil:
		ok = true
	case string:
		ok = t == textColumn
	case int64, Ref:
		ok = t == bigintColumn
	case bool:
		ok = t == booleanColumn
	case []byte:
		if t == textColumn { // a type made of []byte, such as json.RawMessage
			return escapeText(string(n)), nil
		}
		ok = t == bytesColumn
		if n == nil {
			return nil, nil
		}
	}
	if !ok {
		return nil, fmt.Errorf("a %T does not fit its type", v)
	}
	return n, nil
}
