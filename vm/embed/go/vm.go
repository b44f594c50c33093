// SPDX-License-Identifier: MIT

// Package thawvm runs JavaScript inside of a Go program, in VMs that can be kept, copied and taken back. A VM is one sandboxed heap
// with nothing of the process but the functions that it is given.
//
// A VM may be used by any goroutine. One call at a time is in it; the others wait.
package thawvm

// #cgo pkg-config: thawvm
// #include "bridge.h"
import "C"

import (
	"context"
	"math"
	"runtime"
	"runtime/cgo"
	"sort"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Options of a VM; the zero value has none.
type Options struct {
	Image       string                           // a file to go on from, made if it is not there; "": nothing persists
	At          string                           // the number or the name of a generation of it; "": the newest
	Functions   map[string]Func                  // what the program may call, by the name of a global variable
	Async       map[string]AsyncFunc             // and for what of it gets a promise
	MaxBytes    uint64                           // of heap, a multiple of 64 KiB, at least 16 MiB; 0: 4 GiB
	Turn        time.Duration                    // the most that one call, or one timer, may last; 0: no limit
	Log         func(fd int, text string)        // what the program prints (fd 1, 2), and what it did not catch (fd 2)
	MaxLogBytes uint64                           // that one call may print
	LoadModule  func(name string) (string, bool) // the source of what is imported; false: there is none of that name
}

// A VM is one sandboxed heap. Its methods run code in the first of its contexts.
type VM struct{ Context }

// A Context is one program in a VM, with globals of its own.
type Context struct {
	core  *core
	index C.uint
}

type core struct {
	lock    sync.Mutex // who is in the VM
	vm      *C.struct_thaw_vm
	alive   sync.Mutex // held while the VM ends, and while it is interrupted
	options Options
	handle  cgo.Handle
	epoch   int // values of before a rollback, or the end, are of another one

	functions []Func // by number
	async     []AsyncFunc

	raised   []error // by functions, since the call began
	panics   bool
	panicked any

	running     atomic.Int64  // goroutines that work for the program, whose results it does not know yet
	settledLock sync.Mutex    // of the next two
	changed     chan struct{} // who waits looks again
	settled     []settlement
}

// Open makes a VM, or goes on with an image.
func Open(options Options) (*VM, error) { return open(options, nil) }

func open(options Options, snapshot *Snapshot) (*VM, error) {
	c := &core{options: options, changed: make(chan struct{})}
	var failure C.struct_thaw_error
	var given C.struct_bridge_options
	defer c.fill(&given)()
	if snapshot != nil {
		given.snapshot = snapshot.pointer
	}
	c.handle = cgo.NewHandle(c)
	var made *C.struct_thaw_vm
	code := C.bridge_open(&given, C.uintptr_t(c.handle), &made, &failure)
	c.vm = made
	runtime.KeepAlive(snapshot)
	if err := c.check(code, &failure); err != nil {
		if of, ok := err.(*Error); ok && code == C.THAW_VM_EMISSING {
			of.Names = missing(&given)
		}
		c.close()
		return nil, err
	}
	vm := &VM{Context{core: c}}
	runtime.SetFinalizer(vm, func(vm *VM) { vm.core.close() })
	return vm, nil
}

// fill makes the options of C, and gives what frees them.
func (c *core) fill(to *C.struct_bridge_options) func() {
	var names []string
	for name := range c.options.Functions {
		names = append(names, name)
	}
	for name := range c.options.Async {
		names = append(names, name)
	}
	sort.Strings(names)
	count := len(names)
	table := unsafe.Slice((**C.char)(C.calloc(C.size_t(count+1), C.size_t(unsafe.Sizeof(uintptr(0))))), count+1)
	flags := unsafe.Slice((*C.uint)(C.calloc(C.size_t(count+1), C.sizeof_uint)), count+1)
	for i, name := range names {
		table[i] = C.CString(name)
		c.functions, c.async = append(c.functions, c.options.Functions[name]), append(c.async, c.options.Async[name])
		if c.async[i] != nil {
			flags[i] = C.THAW_VM_PROMISE
		}
	}
	*to = C.struct_bridge_options{names: &table[0], flags: &flags[0], count: C.uint(count),
		max_bytes: C.uint64_t(c.options.MaxBytes), turn_ns: C.uint64_t(c.options.Turn), max_log_bytes: C.uint64_t(c.options.MaxLogBytes)}
	if c.options.Log != nil {
		to.log = 1
	}
	if c.options.LoadModule != nil {
		to.load_module = 1
	}
	if c.options.Image != "" {
		to.image = C.CString(c.options.Image)
	}
	if c.options.At != "" {
		to.at = C.CString(c.options.At)
	}
	return func() {
		for _, name := range table {
			C.free(unsafe.Pointer(name))
		}
		C.free(unsafe.Pointer(to.names))
		C.free(unsafe.Pointer(to.flags))
		C.free(unsafe.Pointer(to.image))
		C.free(unsafe.Pointer(to.at))
	}
}

func missing(options *C.struct_bridge_options) []string {
	var failure C.struct_thaw_error
	var table **C.char
	count := C.bridge_missing(options, &table, &failure)
	if count < 0 {
		return nil
	}
	defer C.free(unsafe.Pointer(table))
	var names []string
	for _, name := range unsafe.Slice(table, int(count)) {
		names = append(names, C.GoString(name))
	}
	return names
}

// Close ends the VM, and takes no checkpoint. Any number of times.
func (vm *VM) Close() {
	runtime.SetFinalizer(vm, nil)
	vm.core.close()
}

func (c *core) close() {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.alive.Lock()
	defer c.alive.Unlock()
	C.thaw_vm_close(c.vm)
	c.vm = nil
	c.epoch++
	if c.handle != 0 {
		c.handle.Delete()
		c.handle = 0
	}
	c.notify()
}

// TerminateExecution cuts short the call that is under way, or the next one. For other goroutines.
func (vm *VM) TerminateExecution() { vm.core.interrupt() }

func (c *core) interrupt() {
	c.alive.Lock()
	defer c.alive.Unlock()
	if c.vm != nil {
		C.thaw_vm_interrupt(c.vm)
	}
	c.notify()
}

// ---- Calls

// RunScript runs code, and the promise reactions that are due after it: the value of its last statement, and of a promise, what it
// comes to. `name` is what stacks call the code. The error is a *JSError, or an *Error.
func (x *Context) RunScript(code, name string) (Value, error) {
	return x.RunScriptContext(context.Background(), code, name)
}

// RunScriptContext is RunScript until the context is done.
func (x *Context) RunScriptContext(ctx context.Context, code, name string) (Value, error) {
	return x.run(ctx, func() (C.thaw_vm_value, error) { return x.core.eval(code, name, 0) })
}

// RunModule runs a module, and waits until it is evaluated.
func (x *Context) RunModule(code, name string) error {
	_, err := x.run(context.Background(), func() (C.thaw_vm_value, error) { return x.core.eval(code, name, C.THAW_VM_MODULE) })
	return err
}

// Call calls the function of that name, as "tools.add". Arguments are what a Value holds, other numbers, and slices, maps with
// strings as keys and structs of these, whose fields are named as by encoding/json.
func (x *Context) Call(function string, arguments ...any) (Value, error) {
	return x.CallContext(context.Background(), function, arguments...)
}

// CallContext is Call until the context is done.
func (x *Context) CallContext(ctx context.Context, function string, arguments ...any) (Value, error) {
	return x.run(ctx, func() (C.thaw_vm_value, error) { return x.core.call(function, arguments) })
}

// Run runs timers and async functions until there are none.
func (vm *VM) Run(ctx context.Context) error {
	_, err := vm.run(ctx, nil)
	return err
}

// NewContext is the program of that name, made if there is none.
func (vm *VM) NewContext(name string) (*Context, error) {
	c := vm.core
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.lock.Unlock()
	var failure C.struct_thaw_error
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	index := C.thaw_vm_context_find(c.vm, text)
	if index < 0 {
		index = C.thaw_vm_context_new(c.vm, text, &failure)
	}
	if err := c.check(index, &failure); err != nil {
		return nil, err
	}
	return &Context{c, C.uint(index)}, nil
}

// enter takes the lock of a VM that is open.
func (c *core) enter() error {
	c.lock.Lock()
	if c.vm == nil {
		c.lock.Unlock()
		return ErrClosed
	}
	return nil
}

// watch interrupts the VM when the context is done. The function that it gives ends that.
func (c *core) watch(ctx context.Context) func() {
	if ctx.Done() == nil {
		return func() {}
	}
	over, ended := make(chan struct{}), make(chan bool, 1)
	go func() {
		select {
		case <-ctx.Done():
			c.interrupt()
			ended <- true
		case <-over:
			ended <- false
		}
	}()
	return func() {
		close(over)
		if <-ended && c.vm != nil { // if the call was over before: it is for no other one
			C.thaw_vm_step(c.vm, nil)
		}
	}
}

// watched runs that, and interrupts it when the context is done.
func (c *core) watched(ctx context.Context, what func() (C.thaw_vm_value, error)) (C.thaw_vm_value, error) {
	defer c.watch(ctx)()
	return what()
}

// run is a whole call from outside; without `start`, all that is due.
func (x *Context) run(ctx context.Context, start func() (C.thaw_vm_value, error)) (Value, error) {
	c := x.core
	if err := ctx.Err(); err != nil {
		return Value{}, err
	}
	if err := c.enter(); err != nil {
		return Value{}, err
	}
	defer c.lock.Unlock()
	defer func() { c.raised = nil }()
	var failure C.struct_thaw_error
	if err := c.check(C.thaw_vm_context_use(c.vm, x.index, &failure), &failure); err != nil {
		return Value{}, err
	}
	var value C.thaw_vm_value
	var err error
	if start != nil {
		value, err = c.watched(ctx, start)
		c.notify()
	}
	if err == nil && (start == nil || C.thaw_vm_kind(c.vm, value) == C.THAW_VM_A_PROMISE) {
		value, err = c.wait(ctx, value)
	}
	if ctx.Err() != nil && err != nil {
		return Value{}, ctx.Err()
	}
	return c.receive(value, err)
}

// wait gives what a promise, whose handle it frees, comes to; others may use the VM meanwhile. 0: all that is due.
func (c *core) wait(ctx context.Context, promise C.thaw_vm_value) (C.thaw_vm_value, error) {
	epoch := c.epoch
	defer func() {
		if c.epoch == epoch {
			C.thaw_vm_free(c.vm, promise)
		}
	}()
	for {
		var failure C.struct_thaw_error
		var value C.thaw_vm_value
		changed := c.changes()
		_, err := c.watched(ctx, func() (C.thaw_vm_value, error) {
			if err := c.settle(); err != nil {
				return 0, err
			}
			ran := C.thaw_vm_step(c.vm, &failure)
			if ran > 0 {
				c.notify()
			}
			return 0, c.check(ran, &failure)
		})
		if err != nil {
			return 0, err
		}
		switch C.thaw_vm_promise(c.vm, promise, &value) {
		case C.THAW_VM_FULFILLED:
			return value, nil
		case C.THAW_VM_REJECTED:
			return 0, c.thrown(value, "a promise was rejected")
		}
		due := uint64(C.thaw_vm_next_due(c.vm))
		if due == math.MaxUint64 && c.running.Load() == 0 {
			if promise == 0 {
				return 0, nil
			}
			return 0, ErrPending
		}
		if err := c.sleep(ctx, changed, due); err != nil {
			return 0, err
		}
	}
}

// sleep lets others use the VM until something is due, or happens.
func (c *core) sleep(ctx context.Context, changed <-chan struct{}, due uint64) error {
	epoch := c.epoch
	timer := time.NewTimer(time.Duration(min(due, math.MaxInt64)))
	defer timer.Stop()
	c.lock.Unlock()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
	c.lock.Lock()
	if c.epoch != epoch {
		return ErrRolledBack
	}
	return ctx.Err()
}

func min(a, b uint64) uint64 {
	if a < b {
		return a
	}
	return b
}

func (c *core) eval(code, name string, flags C.uint) (C.thaw_vm_value, error) {
	var failure C.struct_thaw_error
	var value C.thaw_vm_value
	text, called := C.CString(code), C.CString(name)
	defer C.free(unsafe.Pointer(text))
	defer C.free(unsafe.Pointer(called))
	err := c.check(C.thaw_vm_eval(c.vm, text, C.size_t(len(code)), called, flags, &value, &failure), &failure)
	return value, err
}

func (c *core) call(name string, arguments []any) (C.thaw_vm_value, error) {
	var failure C.struct_thaw_error
	var function, self, value C.thaw_vm_value
	values, err := c.sendAll(arguments)
	if err != nil {
		return 0, err
	}
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	err = c.check(C.thaw_vm_lookup(c.vm, text, &function, &self, &failure), &failure)
	if err == nil {
		var first *C.thaw_vm_value
		if len(values) > 0 {
			first = &values[0]
		}
		err = c.check(C.thaw_vm_apply(c.vm, function, self, C.uint(len(values)), first, &value, &failure), &failure)
	}
	for _, handle := range append(values, function, self) {
		C.thaw_vm_free(c.vm, handle)
	}
	return value, err
}

// ---- What a call came to

func (c *core) check(code C.int, failure *C.struct_thaw_error) error {
	if c.panics {
		reason := c.panicked
		c.panics, c.panicked = false, nil
		panic(reason)
	}
	if code == C.THAW_VM_EEXCEPTION && c.vm != nil {
		return c.thrown(C.thaw_vm_exception(c.vm), C.GoString(&failure.text[0]))
	}
	return failed(code, failure)
}

// thrown is the error of an owned handle.
func (c *core) thrown(handle C.thaw_vm_value, text string) error {
	if handle == 0 {
		return &JSError{Message: text}
	}
	value, err := c.receive(handle, nil)
	if err != nil {
		return &JSError{Message: text}
	}
	made, ok := value.of.(*JSError)
	if !ok {
		return &JSError{Message: text, Value: value.of}
	}
	if number, ok := made.Properties[cause].(float64); ok && number >= 1 && int(number) <= len(c.raised) {
		made.Cause = c.raised[int(number)-1]
	}
	delete(made.Properties, cause)
	return made
}

// ---- Values

const cause = "goError" // the property of an Error by which the error is found that it was made of

// unpack is what handles hold, which stay their owner's.
func (c *core) unpack(count C.uint, handles *C.thaw_vm_value) ([]Value, error) {
	if count == 0 {
		return nil, nil
	}
	var failure C.struct_thaw_error
	var data unsafe.Pointer
	var bytes C.size_t
	if err := failed(C.thaw_vm_pack(c.vm, count, handles, &data, &bytes, &failure), &failure); err != nil {
		return nil, err
	}
	defer C.free(data)
	u := unpacker{unsafe.Slice((*byte)(data), bytes)} // whose values are copies
	values := make([]Value, count)
	for i := range values {
		values[i] = Value{u.value()}
	}
	return values, nil
}

// receive is what an owned handle holds.
func (c *core) receive(handle C.thaw_vm_value, err error) (Value, error) {
	if err != nil || handle == 0 {
		return Value{}, err
	}
	defer C.thaw_vm_free(c.vm, handle)
	if kind := C.thaw_vm_kind(c.vm, handle); kind == C.THAW_VM_A_PROMISE || kind == C.THAW_VM_OTHER {
		return Value{}, nil
	}
	values, err := c.unpack(1, &handle)
	if err != nil {
		return Value{}, err
	}
	return values[0], nil
}

func (c *core) sendAll(values []any) ([]C.thaw_vm_value, error) {
	if len(values) == 0 {
		return nil, nil
	}
	data, err := pack(values)
	if err != nil {
		return nil, err
	}
	var failure C.struct_thaw_error
	handles := make([]C.thaw_vm_value, len(values), len(values)+2)
	code := C.thaw_vm_unpack(c.vm, unsafe.Pointer(&data[0]), C.size_t(len(data)), C.uint(len(values)), &handles[0], &failure)
	return handles, c.check(code, &failure)
}

func (c *core) send(value any) (C.thaw_vm_value, error) {
	handles, err := c.sendAll([]any{value})
	if err != nil {
		return 0, err
	}
	return handles[0], nil
}

// sendError is an Error that tells of it; an owned handle.
func (c *core) sendError(err error) (C.thaw_vm_value, error) {
	value, failed := c.send(err)
	if failed != nil {
		return 0, failed
	}
	c.raised = append(c.raised, err)
	name := C.CString(cause)
	defer C.free(unsafe.Pointer(name))
	if number := C.thaw_vm_number(c.vm, C.double(len(c.raised))); number != 0 {
		C.thaw_vm_set(c.vm, value, name, number, nil)
		C.thaw_vm_free(c.vm, number)
	}
	return value, nil
}
