// SPDX-License-Identifier: MIT

package thawvm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"os/signal"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func opened(t *testing.T, options Options) *VM {
	vm := must(Open(options))(t)
	t.Cleanup(vm.Close)
	return vm
}

func gives(t *testing.T, vm interface {
	RunScript(code, name string) (Value, error)
}, code string, wanted any) {
	t.Helper()
	if got := must(vm.RunScript(code, "test.js"))(t); !reflect.DeepEqual(got.Any(), wanted) {
		t.Errorf("%s: %#v, not %#v", code, got.Any(), wanted)
	}
}

func TestValuesComeBack(t *testing.T) {
	vm := opened(t, Options{Functions: map[string]Func{"same": func(call *Call) (any, error) { return call.Argument(0), nil }}})
	gives(t, vm, "globalThis.id = x => x; 0", 0.0)
	day := time.Date(2024, 2, 29, 12, 30, 1, 250e6, time.UTC)
	large, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	for _, value := range []any{nil, true, false, 0.0, -1.0, 1e300, math.Inf(1), "", "a\x00é😀", []byte{}, []byte{0, 255}, []any{}, map[string]any{},
		[]any{1.0, []any{nil}}, map[string]any{"a": map[string]any{"é": "x"}}, large, day} {
		for _, name := range []string{"id", "same"} {
			if got := must(vm.Call(name, value))(t).Any(); !reflect.DeepEqual(got, value) {
				t.Errorf("%s(%#v) is %#v", name, value, got)
			}
		}
	}
	type point struct {
		X    int `json:"x"`
		Y    float32
		skip int
	}
	got := must(vm.Call("id", []point{{X: 1, Y: 2}}))(t).Any()
	if !reflect.DeepEqual(got, []any{map[string]any{"x": 1.0, "Y": 2.0}}) {
		t.Errorf("a struct is %#v", got)
	}
	for _, depth := range []int{1000, 1001} {
		var nested any
		for i := 0; i < depth; i++ {
			nested = []any{nested}
		}
		for _, name := range []string{"id", "same"} {
			got, err := vm.Call(name, nested)
			if (err == nil) != (depth == 1000) || err == nil && !reflect.DeepEqual(got.Any(), nested) {
				t.Errorf("%s of %d arrays in each other: %v", name, depth, err)
			}
		}
	}
	for code, wanted := range map[string]any{"Uint8Clamped": []byte{1, 0}, "Int8": []int8{1, -1}, "Uint8": []byte{1, 255}, "Int16": []int16{1, -1},
		"Uint16": []uint16{1, 65535}, "Int32": []int32{1, -1}, "Uint32": []uint32{1, math.MaxUint32}, "Float32": []float32{1, -1}} {
		gives(t, vm, "new "+code+"Array([1, -1])", wanted)
	}
	gives(t, vm, "new BigInt64Array([1n, -1n])", []int64{1, -1})
	gives(t, vm, "new BigUint64Array([1n, -1n])", []uint64{1, math.MaxUint64})
	gives(t, vm, "new Float64Array([1.5])", []float64{1.5})
	gives(t, vm, "new Float16Array([0.5, -2])", []float32{0.5, -2})
	if text := must(vm.RunScript("'a' + 1", "a.js"))(t).String(); text != "a1" {
		t.Error(text)
	}
	circle := []any{nil}
	circle[0] = circle
	for _, value := range []any{circle, make(chan int), map[int]int{}} {
		if _, err := vm.Call("id", value); err == nil {
			t.Errorf("%T went in", value)
		}
	}
}

func TestErrorsGoThroughTheProgram(t *testing.T) {
	failure := errors.New("no such page")
	vm := opened(t, Options{Turn: 250 * time.Millisecond, MaxBytes: 32 << 20, Functions: map[string]Func{
		"fails": func(*Call) (any, error) { return nil, failure },
		"again": func(call *Call) (any, error) { return call.RunScript("21 * 2", "inner.js") },
		"panic": func(*Call) (any, error) { panic("at the disco") },
	}})
	_, err := vm.RunScript("function deep() {\n\tnull.x\n}\ndeep()", "deep.js")
	var js *JSError
	if !errors.As(err, &js) || js.Name != "TypeError" || !strings.Contains(js.Stack, "deep.js:2") {
		t.Errorf("%#v", err)
	}
	gives(t, vm, "try { fails() } catch (e) { e.message }", "no such page")
	if _, err = vm.RunScript("fails()", "a.js"); !errors.Is(err, failure) {
		t.Error(err)
	}
	gives(t, vm, "again()", 42.0)
	if _, err = vm.RunScript("for (;;) try { for (;;); } catch {}", "a.js"); !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
	if _, err = vm.RunScript("const all = []; for (;;) all.push(new Uint8Array(1e6).fill(1))", "a.js"); !errors.As(err, &js) {
		t.Error(err)
	}
	func() {
		defer func() {
			if reason := recover(); reason != "at the disco" {
				t.Error(reason)
			}
		}()
		vm.RunScript("try { panic() } catch {} globalThis.reached = 1", "a.js")
	}()
	gives(t, vm, "globalThis.reached", nil)
}

func TestPromisesOfGoroutines(t *testing.T) {
	vm := opened(t, Options{Async: map[string]AsyncFunc{
		"twice": func(arguments []Value) (any, error) { return 2 * arguments[0].Number(), nil },
		"fails": func([]Value) (any, error) { return nil, errors.New("gone") },
		"dies":  func([]Value) (any, error) { panic("oh") },
		"never": func([]Value) (any, error) { select {} },
	}})
	gives(t, vm, "globalThis.wait = ms => new Promise(r => setTimeout(r, ms, ms)); 0", 0.0)
	gives(t, vm, "Promise.all([twice(1), wait(2), twice(3)])", []any{2.0, 2.0, 6.0})
	gives(t, vm, "fails().catch(e => e.message)", "gone")
	gives(t, vm, "dies().catch(e => e.message)", "panic: oh")
	if _, err := vm.RunScript("new Promise(() => 0)", "a.js"); !errors.Is(err, ErrPending) {
		t.Error(err)
	}
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			if got, err := vm.Call("twice", i); err != nil || got.Integer() != int64(2*i) {
				t.Error(got, err)
			}
		}(i)
	}
	all.Wait()
	for _, code := range []string{"never()", "for (;;);", "wait(1e7)"} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if _, err := vm.RunScriptContext(ctx, code, "a.js"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(code, err)
		}
		cancel()
		gives(t, vm, "1 + 1", 2.0)
	}
}

func TestSnapshots(t *testing.T) {
	options := Options{Functions: map[string]Func{"add": func(call *Call) (any, error) {
		return call.Argument(0).Number() + call.Argument(1).Number(), nil
	}}}
	vm := opened(t, options)
	gives(t, vm, "var n = 1; globalThis.up = () => n = add(n, 1); 0", 0.0)
	one := must(vm.Snapshot())(t)
	gives(t, vm, "up(); up()", 3.0)
	two := must(vm.Snapshot())(t)
	fork := must(one.Fork())(t)
	defer fork.Close()
	gives(t, fork, "up()", 2.0)
	if err := vm.Rollback(one); err != nil {
		t.Error(err)
	}
	gives(t, vm, "n", 1.0)
	whole, delta := must(one.Bytes(nil))(t), must(two.Bytes(one))(t)
	if len(delta) > len(whole)/4 {
		t.Errorf("a delta of %d bytes, of %d", len(delta), len(whole))
	}
	base := must(SnapshotFromBytes(whole, nil, 0))(t)
	again := must(SnapshotFromBytes(delta, base, 0))(t)
	if must(again.ID())(t) != must(two.ID())(t) {
		t.Error("not what it was")
	}
	_, err := again.Fork()
	var missing *Error
	if !errors.Is(err, ErrMissing) || !errors.As(err, &missing) || !reflect.DeepEqual(missing.Names, []string{"add"}) {
		t.Errorf("%#v", err)
	}
	for _, data := range [][]byte{nil, []byte("else"), delta} {
		if _, err := SnapshotFromBytes(data, nil, 0); err == nil {
			t.Error("it was taken")
		}
	}
	second := must(vm.NewContext("second"))(t)
	gives(t, second, "var n = 7; n", 7.0)
	gives(t, vm, "n", 1.0)
}

func TestWhatWasDueRunsWhileItIsOpened(t *testing.T) {
	said := 0
	vm := opened(t, Options{Turn: 200 * time.Millisecond, Functions: map[string]Func{"say": func(call *Call) (any, error) {
		said++
		return call.RunScript("[7]", "inner.js")
	}}})
	if _, err := vm.RunScript("Promise.resolve().then(() => globalThis.v = say(1)); for (;;);", "a.js"); !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
	fork := must(must(vm.Snapshot())(t).Fork())(t)
	defer fork.Close()
	if said != 1 {
		t.Errorf("%d times", said)
	}
	gives(t, fork, "v", []any{7.0})
}

func TestWaitsEndWithWhatTheyWaitFor(t *testing.T) {
	begun := make(chan bool, 2)
	vm := must(Open(Options{Async: map[string]AsyncFunc{"never": func([]Value) (any, error) {
		begun <- true
		select {}
	}}}))(t)
	empty := must(vm.Snapshot())(t)
	for _, end := range []func(){func() { vm.Rollback(empty) }, vm.Close} {
		ended := make(chan error)
		go func() {
			_, err := vm.RunScript("never()", "a.js")
			ended <- err
		}()
		<-begun
		end()
		if err := <-ended; !errors.Is(err, ErrRolledBack) {
			t.Error(err)
		}
	}
}

func TestImagesGoOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.thaw")
	vm := must(Open(Options{Image: path}))(t)
	gives(t, vm, "var n = 1", nil)
	first := must(vm.Checkpoint("first"))(t)
	gives(t, vm, "n = 2", 2.0)
	if must(vm.Checkpoint(""))(t) <= first {
		t.Error("the same generation")
	}
	vm.Close()
	gives(t, opened(t, Options{Image: path}), "n", 2.0)
	if _, err := Open(Options{Image: path}); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	runtime.GC()
}

func TestLogAndModules(t *testing.T) {
	var said strings.Builder
	vm := opened(t, Options{
		Log: func(fd int, text string) { fmt.Fprintf(&said, "%d %s", fd, text) },
		LoadModule: func(name string) (string, bool) {
			return "export const two = 2", name == "two"
		}})
	if err := vm.RunModule("import { two } from 'two'; console.log('got', two)", "main.js"); err != nil {
		t.Error(err)
	}
	if said.String() != "1 got 2\n" {
		t.Error(said.String())
	}
	if err := vm.RunModule("import 'none'", "main.js"); err == nil {
		t.Error("there is no such module")
	}
}

// ---- The process: Go's own handlers of faults, its threads, its preemption

//go:noinline
func dereference(nowhere *[16]int) int { return nowhere[3] }

func panics(t *testing.T) {
	t.Helper()
	defer func() {
		if _, ok := recover().(runtime.Error); !ok {
			t.Error("a fault of Go's is no panic")
		}
	}()
	dereference(nil)
}

func TestFaultsOfGoStayPanics(t *testing.T) {
	for round := 0; round < 3; round++ {
		panics(t) // also before the first VM, if this test runs alone
		vm := opened(t, Options{Functions: map[string]Func{"panics": func(*Call) (any, error) {
			panics(t)
			return 1, nil
		}}})
		gives(t, vm, "let a = []; for (let i = 0; i < 1e5; i++) a.push({ i }); panics()", 1.0)
		snapshot := must(vm.Snapshot())(t)
		gives(t, vm, "a.fill(0).length", 1e5)
		panics(t)
		if err := vm.Rollback(snapshot); err != nil {
			t.Error(err)
		}
		gives(t, vm, "panics() + a[7].i", 8.0)
	}
	signal.Ignore(syscall.SIGUSR1) // makes the runtime look at its handlers again
	panics(t)
}

func TestManyGoroutinesOnManyThreads(t *testing.T) {
	var all sync.WaitGroup
	shared := opened(t, Options{})
	gives(t, shared, "var n = 0", nil)
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			if i%2 == 0 {
				runtime.LockOSThread() // and the thread ends with it
			}
			vm, err := Open(Options{Functions: map[string]Func{"f": func(call *Call) (any, error) {
				runtime.Gosched()
				return call.Argument(0), nil
			}}})
			if err != nil {
				t.Error(err)
				return
			}
			defer vm.Close()
			for n := 0; n < 50; n++ {
				if got, err := vm.RunScript(fmt.Sprintf("f(%d)", n), "a.js"); err != nil || got.Integer() != int64(n) {
					t.Error(got, err)
				}
				if _, err := shared.RunScript("n++", "a.js"); err != nil {
					t.Error(err)
				}
				runtime.Gosched()
			}
			panics(t)
		}(i)
	}
	garbage := make(chan bool)
	go func() {
		for i := 0; i < 20; i++ {
			runtime.GC() // stops the world, by signals to threads that are in VMs
		}
		close(garbage)
	}()
	all.Wait()
	<-garbage
	gives(t, shared, "n", 400.0)
}

func TestWhatNobodyHasGoes(t *testing.T) {
	gone := make(chan bool, 1)
	func() {
		vm := must(Open(Options{}))(t)
		runtime.SetFinalizer(vm.core, func(*core) { gone <- true })
	}()
	for i := 0; ; i++ {
		runtime.GC()
		select {
		case <-gone:
			return
		case <-time.After(10 * time.Millisecond):
			if i > 1000 {
				t.Fatal("it stays")
			}
		}
	}
}

func TestClosedOnesSaySo(t *testing.T) {
	vm := must(Open(Options{}))(t)
	vm.Close()
	vm.Close()
	vm.TerminateExecution()
	if _, err := vm.RunScript("1", "a.js"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := vm.Snapshot(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
