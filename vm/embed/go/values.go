// SPDX-License-Identifier: MIT

package thawvm

// #include "bridge.h"
import "C"

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A Value is something of a program's, copied out of it. What it holds is, by the kind that it had:
//
//	undefined, null, functions, symbols    nil
//	boolean, number, string                bool, float64, string
//	BigInt, Date                           *big.Int, time.Time
//	Uint8Array and buffers                 []byte
//	other typed arrays                     []int8, []int16, []uint16 ... []float64
//	array, object                          []any, map[string]any
//	Error                                  *JSError
type Value struct{ of any }

// Any is what it holds.
func (v Value) Any() any { return v.of }

// String is it as text: of a string, its own.
func (v Value) String() string {
	switch of := v.of.(type) {
	case string:
		return of
	case float64:
		return strconv.FormatFloat(of, 'g', -1, 64)
	case nil:
		return "undefined"
	case error:
		return of.Error()
	}
	return fmt.Sprint(v.of)
}

// Number is it as a number; NaN: it is none.
func (v Value) Number() float64 {
	switch of := v.of.(type) {
	case float64:
		return of
	case *big.Int:
		number, _ := new(big.Float).SetInt(of).Float64()
		return number
	}
	return math.NaN()
}

// Integer is it as a number without its fraction; 0: it is none, or too large.
func (v Value) Integer() int64 {
	if of, ok := v.of.(*big.Int); ok && of.IsInt64() {
		return of.Int64()
	}
	if number := v.Number(); math.Abs(number) < 1<<63 {
		return int64(number)
	}
	return 0
}

// Boolean is it as a condition.
func (v Value) Boolean() bool {
	switch of := v.of.(type) {
	case bool:
		return of
	case nil:
		return false
	case string:
		return of != ""
	case float64:
		return of != 0 && of == of
	case *big.Int:
		return of.Sign() != 0
	}
	return true
}

// ---- The packed form of thaw_vm.h (thaw_vm_pack)

const (
	safe  = 1 << 53
	depth = C.THAW_VM_PACK_DEPTH + 1 // what is in the innermost array counts
)

type packer struct{ data []byte }

func (p *packer) size(n int) { p.data = binary.LittleEndian.AppendUint32(p.data, uint32(n)) }

func (p *packer) text(s string) {
	p.size(len(s))
	p.data = append(p.data, s...)
}

func (p *packer) double(letter byte, number float64) {
	p.data = append(p.data, letter)
	p.data = binary.LittleEndian.AppendUint64(p.data, math.Float64bits(number))
}

func (p *packer) big(number *big.Int) {
	p.data = append(p.data, 'b')
	p.text(number.String())
}

func (p *packer) integer(number int64) {
	switch {
	case number == int64(int32(number)):
		p.data = append(p.data, 'i')
		p.size(int(int32(number)))
	case number >= -safe && number <= safe:
		p.double('d', float64(number))
	default:
		p.big(big.NewInt(number))
	}
}

func (p *packer) fails(err error) {
	p.data = append(p.data, 'e')
	if js, ok := err.(*JSError); ok {
		p.text(js.Name)
		p.text(js.Message)
		p.text(js.Stack)
	} else {
		p.text("Error")
		p.text(err.Error())
		p.text("")
	}
	p.data = append(p.data, 'o')
	p.size(0)
}

func (p *packer) value(of any, left int) error {
	if left == 0 {
		return fmt.Errorf("thawvm: the value is circular, or too deep")
	}
	switch of := of.(type) {
	case nil:
		p.data = append(p.data, 'n')
	case bool:
		p.data = append(p.data, map[bool]byte{true: 't', false: 'f'}[of])
	case string:
		p.data = append(p.data, 's')
		p.text(of)
	case float64:
		p.double('d', of)
	case int:
		p.integer(int64(of))
	case []byte:
		p.data = append(p.data, 'y', 2)
		p.size(len(of))
		p.data = append(p.data, of...)
	case *big.Int:
		p.big(of)
	case time.Time:
		p.double('D', float64(of.UnixMilli()))
	case Value:
		return p.value(of.of, left)
	case error:
		p.fails(of)
	default:
		return p.other(reflect.ValueOf(of), left)
	}
	return nil
}

func (p *packer) other(of reflect.Value, left int) error {
	switch of.Kind() {
	case reflect.Bool:
		return p.value(of.Bool(), left)
	case reflect.String:
		return p.value(of.String(), left)
	case reflect.Float32, reflect.Float64:
		p.double('d', of.Float())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.integer(of.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if number := of.Uint(); number <= safe {
			p.integer(int64(number))
		} else {
			p.big(new(big.Int).SetUint64(number))
		}
	case reflect.Pointer, reflect.Interface:
		if of.IsNil() {
			return p.value(nil, left)
		}
		return p.value(of.Elem().Interface(), left-1)
	case reflect.Slice, reflect.Array:
		if of.Kind() == reflect.Slice && of.IsNil() {
			return p.value(nil, left)
		}
		p.data = append(p.data, 'a')
		p.size(of.Len())
		for i := 0; i < of.Len(); i++ {
			if err := p.value(of.Index(i).Interface(), left-1); err != nil {
				return err
			}
		}
	case reflect.Map:
		return p.object(of, left)
	case reflect.Struct:
		return p.fields(of, left)
	default:
		return fmt.Errorf("thawvm: JavaScript has nothing for a %s", of.Type())
	}
	return nil
}

func (p *packer) object(of reflect.Value, left int) error {
	if of.Type().Key().Kind() != reflect.String {
		return fmt.Errorf("thawvm: keys of an object are strings, not %s", of.Type().Key())
	}
	p.data = append(p.data, 'o')
	p.size(of.Len())
	for entries := of.MapRange(); entries.Next(); {
		p.text(entries.Key().String())
		if err := p.value(entries.Value().Interface(), left-1); err != nil {
			return err
		}
	}
	return nil
}

// By the names that encoding/json would give them.
func (p *packer) fields(of reflect.Value, left int) error {
	var names []string
	var values []any
	for _, field := range reflect.VisibleFields(of.Type()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || field.Anonymous || name == "-" {
			continue
		}
		if name == "" {
			name = field.Name
		}
		value, err := of.FieldByIndexErr(field.Index)
		if err != nil {
			continue
		}
		names, values = append(names, name), append(values, value.Interface())
	}
	p.data = append(p.data, 'o')
	p.size(len(names))
	for i, name := range names {
		p.text(name)
		if err := p.value(values[i], left-1); err != nil {
			return err
		}
	}
	return nil
}

// pack gives values one after the other.
func pack(values []any) ([]byte, error) {
	p := packer{data: make([]byte, 0, 64)}
	for _, value := range values {
		if err := p.value(value, depth); err != nil {
			return nil, err
		}
	}
	return p.data, nil
}

// ---- Back: the bytes are the library's, whose form is right

type unpacker struct{ data []byte }

func (u *unpacker) take(n int) []byte {
	part := u.data[:n]
	u.data = u.data[n:]
	return part
}

func (u *unpacker) size() int    { return int(binary.LittleEndian.Uint32(u.take(4))) }
func (u *unpacker) text() string { return string(u.take(u.size())) }
func (u *unpacker) double() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(u.take(8)))
}

func (u *unpacker) object() map[string]any {
	count := u.size()
	made := make(map[string]any, count)
	for ; count > 0; count-- {
		key := u.text()
		made[key] = u.value()
	}
	return made
}

func numbers[T any](data []byte, bytes int, one func([]byte) T) []T {
	made := make([]T, len(data)/bytes)
	for i := range made {
		made[i] = one(data[i*bytes:])
	}
	return made
}

func half(bits uint16) float32 {
	exponent, fraction := int(bits>>10&31), float64(bits&1023)
	value := math.Ldexp(1+fraction/1024, exponent-15)
	switch {
	case exponent == 0:
		value = math.Ldexp(fraction, -24)
	case exponent == 31 && fraction == 0:
		value = math.Inf(1)
	case exponent == 31:
		value = math.NaN()
	}
	if bits>>15 != 0 {
		value = -value
	}
	return float32(value)
}

func (u *unpacker) view() any {
	kind, little := u.take(1)[0], binary.LittleEndian
	data := u.take(u.size())
	switch kind {
	case 1:
		return numbers(data, 1, func(b []byte) int8 { return int8(b[0]) })
	case 3:
		return numbers(data, 2, func(b []byte) int16 { return int16(little.Uint16(b)) })
	case 4:
		return numbers(data, 2, little.Uint16)
	case 5:
		return numbers(data, 4, func(b []byte) int32 { return int32(little.Uint32(b)) })
	case 6:
		return numbers(data, 4, little.Uint32)
	case 7:
		return numbers(data, 8, func(b []byte) int64 { return int64(little.Uint64(b)) })
	case 8:
		return numbers(data, 8, little.Uint64)
	case 9:
		return numbers(data, 2, func(b []byte) float32 { return half(little.Uint16(b)) })
	case 10:
		return numbers(data, 4, func(b []byte) float32 { return math.Float32frombits(little.Uint32(b)) })
	case 11:
		return numbers(data, 8, func(b []byte) float64 { return math.Float64frombits(little.Uint64(b)) })
	}
	return append([]byte{}, data...)
}

func (u *unpacker) value() any {
	switch letter := u.take(1)[0]; letter {
	case 't', 'f':
		return letter == 't'
	case 'i':
		return float64(int32(u.size()))
	case 'd':
		return u.double()
	case 's':
		return u.text()
	case 'b':
		number, _ := new(big.Int).SetString(u.text(), 10)
		return number
	case 'y':
		return u.view()
	case 'D':
		return date(u.double())
	case 'a':
		made := make([]any, u.size())
		for i := range made {
			made[i] = u.value()
		}
		return made
	case 'o':
		return u.object()
	case 'e':
		made := &JSError{Name: u.text(), Message: u.text(), Stack: u.text()}
		u.take(1)
		made.Properties = u.object()
		return made
	}
	return nil // 'u', 'n'
}

// An invalid Date is NaN.
func date(milliseconds float64) any {
	if milliseconds != milliseconds {
		return milliseconds
	}
	return time.UnixMilli(int64(milliseconds)).UTC()
}
