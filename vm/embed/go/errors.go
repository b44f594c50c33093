// SPDX-License-Identifier: MIT

package thawvm

// #include "bridge.h"
import "C"

import "fmt"

// An Error is what every failure is that is not the program's own (JSError). Tell them apart by errors.Is and the Err variables.
type Error struct {
	Code  int // of thaw_vm.h
	Text  string
	Names []string // of ErrMissing: the functions
}

func (e *Error) Error() string { return e.Text }

// Is reports whether both are of one kind.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && kind(other.Code) == kind(e.Code)
}

// For errors.Is.
var (
	ErrInterrupted  = &Error{Code: C.THAW_VM_EINTERRUPTED, Text: "the call was cut short"}
	ErrTrapped      = &Error{Code: C.THAW_VM_ETRAPPED, Text: "the sandbox stopped the VM: it can be closed, or rolled back"}
	ErrEnded        = &Error{Code: C.THAW_VM_EENDED, Text: "the program has called exit(): the VM can be closed, or rolled back"}
	ErrMissing      = &Error{Code: C.THAW_VM_EMISSING, Text: "functions are needed that were not given"}
	ErrPending      = &Error{Code: C.THAW_VM_EPENDING, Text: "a promise that nothing can settle"}
	ErrBusy         = &Error{Code: -C.EBUSY, Text: "the VM or the image is in use"}
	ErrOutOfMemory  = &Error{Code: -C.ENOMEM, Text: "out of memory"}
	ErrDamaged      = &Error{Code: C.THAW_EDAMAGED, Text: "the image or the snapshot is damaged"}
	ErrIncompatible = &Error{Code: C.THAW_EFORMAT, Text: "no image or snapshot, or one of another format or engine"}
	ErrRolledBack   = &Error{Code: -C.ECANCELED, Text: "the VM was closed or rolled back while a promise of it was waited for"}
	ErrClosed       = &Error{Code: -C.EBADF, Text: "the VM is closed"}
)

func kind(code int) int {
	switch code {
	case C.THAW_EFOREIGN, C.THAW_EENGINE:
		return C.THAW_EFORMAT
	case C.THAW_EINUSE:
		return -C.EBUSY
	}
	return code
}

// failed is the error of a code that the library returned; nil: it is none.
func failed(code C.int, failure *C.struct_thaw_error) error {
	if code >= 0 {
		return nil
	}
	return &Error{Code: int(code), Text: C.GoString(&failure.text[0])}
}

// A JSError is what the program threw.
type JSError struct {
	Name, Message, Stack string
	Properties           map[string]any // what else it has, as code
	Value                any            // what was thrown, if it was no Error
	Cause                error          // what a function of Go's failed with, if it came from there
}

func (e *JSError) Error() string {
	if e.Name == "" {
		return e.Message
	}
	return fmt.Sprintf("%s: %s", e.Name, e.Message)
}

// Unwrap gives the Cause.
func (e *JSError) Unwrap() error { return e.Cause }
