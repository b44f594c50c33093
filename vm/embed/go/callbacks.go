// SPDX-License-Identifier: MIT

package thawvm

// #include "bridge.h"
import "C"

import (
	"fmt"
	"runtime/cgo"
	"unsafe"
)

// A Func is a function that the program may call. What it returns is converted as arguments of VM.Call are; an error is thrown as
// an Error, and is the Cause of the JSError if the program does not catch that. A panic ends the call, and comes out of it. It must
// not end its goroutine (runtime.Goexit, testing.T.FailNow).
type Func func(call *Call) (any, error)

// An AsyncFunc is one for which the program gets a promise. It runs in a goroutine of its own.
type AsyncFunc func(arguments []Value) (any, error)

// A Call is what a Func is called with. In a Func, use the VM by these methods: those of VM wait until the call is over.
type Call struct {
	Arguments []Value
	core      *core
}

// Argument is the one of that number; undefined: there is none.
func (call *Call) Argument(number int) Value {
	if number < len(call.Arguments) {
		return call.Arguments[number]
	}
	return Value{}
}

// RunScript runs code in the context of the code that has called. A promise is not waited for, and is undefined.
func (call *Call) RunScript(code, name string) (Value, error) {
	return call.core.receive(call.core.eval(code, name, 0))
}

// Call calls a function there.
func (call *Call) Call(function string, arguments ...any) (Value, error) {
	return call.core.receive(call.core.call(function, arguments))
}

// end is the end of a callback: what it panics with ends the call that is under way.
func (c *core) end(reason any) {
	if reason == nil {
		return
	}
	if !c.panics {
		c.panics, c.panicked = true, reason
	}
	if c.vm != nil {
		C.thaw_vm_interrupt(c.vm)
	}
}

//export thawvmCall
func thawvmCall(handle C.uintptr_t, vm *C.struct_thaw_vm, index C.uint, ticket C.uint64_t, count C.uint, arguments *C.thaw_vm_value) (result C.thaw_vm_value) {
	c := cgo.Handle(handle).Value().(*core)
	c.vm = vm // while it is opened, too
	defer func() { c.end(recover()) }()
	values, err := c.unpack(count, arguments)
	if err == nil && c.async[index] != nil {
		c.begin(uint64(ticket), c.async[index], values)
		return 0
	}
	var given any
	if err == nil {
		given, err = c.functions[index](&Call{values, c})
	}
	if err == nil && given != nil {
		result, err = c.send(given)
	}
	if err != nil {
		c.throw(err)
		return 0
	}
	return result
}

func (c *core) throw(err error) {
	error, failed := c.sendError(err)
	if failed != nil { // no memory, or calls within calls are too deep for one more
		text := C.CString(err.Error())
		defer C.free(unsafe.Pointer(text))
		kind := C.CString("Error")
		defer C.free(unsafe.Pointer(kind))
		C.thaw_vm_throw(c.vm, kind, text)
		return
	}
	C.thaw_vm_throw_value(c.vm, error)
	C.thaw_vm_free(c.vm, error)
}

//export thawvmLog
func thawvmLog(handle C.uintptr_t, fd C.int, text *C.char, bytes C.size_t) {
	c := cgo.Handle(handle).Value().(*core)
	defer func() { c.end(recover()) }()
	c.options.Log(int(fd), C.GoStringN(text, C.int(bytes)))
}

//export thawvmLoad
func thawvmLoad(handle C.uintptr_t, name *C.char, bytes *C.size_t) *C.char {
	c := cgo.Handle(handle).Value().(*core)
	defer func() { c.end(recover()) }()
	text, ok := c.options.LoadModule(C.GoString(name))
	if !ok {
		return nil
	}
	*bytes = C.size_t(len(text))
	return C.CString(text)
}

// ---- Functions that take longer

type settlement struct {
	ticket uint64
	value  any
	err    error
}

func (c *core) begin(ticket uint64, function AsyncFunc, arguments []Value) {
	c.running.Add(1)
	go func() {
		done := settlement{ticket: ticket, err: fmt.Errorf("the function ended its goroutine")}
		defer func() {
			if reason := recover(); reason != nil {
				done.err = fmt.Errorf("panic: %v", reason)
			}
			c.settledLock.Lock()
			c.settled = append(c.settled, done)
			c.settledLock.Unlock()
			c.notify()
		}()
		done.value, done.err = function(arguments)
	}()
}

// notify wakes all who wait for the VM.
func (c *core) notify() {
	c.settledLock.Lock()
	close(c.changed)
	c.changed = make(chan struct{})
	c.settledLock.Unlock()
}

// changes is closed at the next notify().
func (c *core) changes() <-chan struct{} {
	c.settledLock.Lock()
	defer c.settledLock.Unlock()
	return c.changed
}

// settle tells the program what has come of them.
func (c *core) settle() error {
	c.settledLock.Lock()
	settled := c.settled
	c.settled = nil
	c.settledLock.Unlock()
	if len(settled) > 0 {
		defer c.notify()
	}
	for i, done := range settled {
		err := c.settleOne(done)
		c.running.Add(-1)
		if err != nil {
			c.settledLock.Lock()
			c.settled = append(settled[i+1:], c.settled...)
			c.settledLock.Unlock()
			return err
		}
	}
	return nil
}

func (c *core) settleOne(done settlement) error {
	var failure C.struct_thaw_error
	var code C.int
	var value C.thaw_vm_value
	var err error
	if done.err == nil && done.value != nil {
		if value, err = c.send(done.value); err != nil {
			done.err = err
		}
	}
	if done.err != nil {
		if value, err = c.sendError(done.err); err != nil {
			return err
		}
		code = C.thaw_vm_reject(c.vm, C.uint64_t(done.ticket), value, &failure)
	} else {
		code = C.thaw_vm_settle(c.vm, C.uint64_t(done.ticket), value, nil, &failure)
	}
	C.thaw_vm_free(c.vm, value)
	if code == -C.ENOENT { // the VM was rolled back to where it had not asked
		return nil
	}
	return c.check(code, &failure)
}
