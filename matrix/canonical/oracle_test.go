package canonical_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/myelin-chat/myelin/matrix/canonical"
)

// The oracle makes canonical JSON slowly and plainly, from the tokens that
// encoding/json finds. It knows the rules but shares no code.

var errOracle = errors.New("no canonical form")

type oracle struct {
	tokens *json.Decoder
	mode   canonical.Mode
}

func oracleJSON(src []byte, m canonical.Mode) (string, error) {
	if !json.Valid(src) || !utf8.Valid(src) || hasLoneSurrogate(src) {
		return "", errOracle
	}
	o := oracle{json.NewDecoder(bytes.NewReader(src)), m}
	o.tokens.UseNumber()
	return o.value(0)
}

var escapes = regexp.MustCompile(`\\(?:u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(u[dD][89a-fA-F]\w\w)|.)`)

func hasLoneSurrogate(src []byte) bool {
	return slices.ContainsFunc(escapes.FindAllSubmatch(src, -1), func(m [][]byte) bool { return m[1] != nil })
}

func (o oracle) value(depth int) (string, error) {
	token, err := o.tokens.Token()
	if err != nil {
		return "", err
	}
	most := 100
	if o.mode == canonical.Lenient {
		most = 1000
	}
	switch v := token.(type) {
	case json.Delim:
		if depth == most {
			return "", errOracle
		}
		if v == '{' {
			return o.object(depth + 1)
		}
		return o.array(depth + 1)
	case string:
		return oracleString(v), nil
	case json.Number:
		return o.number(string(v))
	case bool:
		return strconv.FormatBool(v), nil
	default:
		return "null", nil
	}
}

func (o oracle) array(depth int) (string, error) {
	var elements []string
	for o.tokens.More() {
		v, err := o.value(depth)
		if err != nil {
			return "", err
		}
		elements = append(elements, v)
	}
	_, err := o.tokens.Token()
	return "[" + strings.Join(elements, ",") + "]", err
}

func (o oracle) object(depth int) (string, error) {
	members := map[string]string{}
	var keys []string
	for o.tokens.More() {
		key, err := o.tokens.Token()
		if err != nil {
			return "", err
		}
		k := key.(string)
		if _, again := members[k]; !again {
			keys = append(keys, k)
		} else if o.mode == canonical.Strict {
			return "", errOracle
		}
		if members[k], err = o.value(depth); err != nil {
			return "", err
		}
	}
	slices.SortFunc(keys, func(a, b string) int { return slices.Compare([]rune(a), []rune(b)) })
	for i, k := range keys {
		keys[i] = oracleString(k) + ":" + members[k]
	}
	_, err := o.tokens.Token()
	return "{" + strings.Join(keys, ",") + "}", err
}

func oracleString(s string) string {
	var out strings.Builder
	for _, r := range s {
		switch {
		case strings.ContainsRune("\"\\", r):
			out.WriteString(`\` + string(r))
		case strings.ContainsRune("\b\t\n\f\r", r):
			out.WriteString(strings.Trim(strconv.Quote(string(r)), `"`))
		case r < ' ':
			out.WriteString(`\u` + strconv.FormatInt(0x10000+int64(r), 16)[1:])
		default:
			out.WriteRune(r)
		}
	}
	return `"` + out.String() + `"`
}

func (o oracle) number(text string) (string, error) {
	integer := !strings.ContainsAny(text, ".eE")
	if o.mode == canonical.Lenient && !integer {
		return oracleFloat(text)
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || !integer {
		return "", errOracle
	}
	if o.mode == canonical.Lenient {
		if len(text) > 4300 && len(strings.TrimPrefix(text, "-")) > 4300 {
			return "", errOracle
		}
		return n.String(), nil
	}
	if text == "-0" || n.CmpAbs(big.NewInt(1<<53)) >= 0 {
		return "", errOracle
	}
	return n.String(), nil
}

// oracleFloat places the point in the shortest digits as CPython does.
func oracleFloat(text string) (string, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return "", errOracle
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	sign := ""
	if strings.HasPrefix(mantissa, "-") {
		sign, mantissa = "-", mantissa[1:]
	}
	e, _ := strconv.Atoi(exponent)
	digits := strings.Replace(mantissa, ".", "", 1)
	switch {
	case e < -4 || e >= 16:
		return sign + mantissa + "e" + exponent, nil
	case e < 0:
		return sign + "0." + strings.Repeat("0", -e-1) + digits, nil
	case len(digits) <= e+1:
		return sign + digits + strings.Repeat("0", e+1-len(digits)) + ".0", nil
	default:
		return sign + digits[:e+1] + "." + digits[e+1:], nil
	}
}
