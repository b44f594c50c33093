// SPDX-License-Identifier: MIT

package thawvm

// #include "bridge.h"
import "C"

import (
	"encoding/hex"
	"runtime"
	"unsafe"
)

// A Snapshot is what a VM was between two calls. It never changes, and may be used by any goroutine, also together.
type Snapshot struct {
	pointer *C.struct_thaw_vm_snapshot
	options Options
}

func snapshot(pointer *C.struct_thaw_vm_snapshot, options Options) *Snapshot {
	options.Image, options.At = "", ""
	made := &Snapshot{pointer, options}
	runtime.SetFinalizer(made, func(s *Snapshot) { C.thaw_vm_snapshot_drop(s.pointer) })
	return made
}

// Snapshot is what the VM is now, in memory.
func (vm *VM) Snapshot() (*Snapshot, error) {
	c := vm.core
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.lock.Unlock()
	var failure C.struct_thaw_error
	var pointer *C.struct_thaw_vm_snapshot
	if err := failed(C.thaw_vm_snapshot(c.vm, &pointer, &failure), &failure); err != nil {
		return nil, err
	}
	return snapshot(pointer, c.options), nil
}

// Rollback makes a VM without an image what it was, or another one was; also one that has trapped, or ended.
func (vm *VM) Rollback(to *Snapshot) error {
	c := vm.core
	if err := c.enter(); err != nil {
		return err
	}
	defer c.lock.Unlock()
	var failure C.struct_thaw_error
	code := C.thaw_vm_rollback(c.vm, to.pointer, &failure)
	runtime.KeepAlive(to)
	if code == 0 || code == -C.ENOMEM {
		c.epoch++
		c.notify()
	}
	return failed(code, &failure)
}

// Checkpoint makes what is in the VM durable in its image, perhaps under a name: the number of the generation.
func (vm *VM) Checkpoint(name string) (uint64, error) {
	c := vm.core
	if err := c.enter(); err != nil {
		return 0, err
	}
	defer c.lock.Unlock()
	var failure C.struct_thaw_error
	var number C.uint64_t
	var text *C.char
	if name != "" {
		text = C.CString(name)
		defer C.free(unsafe.Pointer(text))
	}
	err := failed(C.thaw_vm_checkpoint(c.vm, text, &number, &failure), &failure)
	return uint64(number), err
}

// Fork is a VM that begins as this, with the options of the VM that it was taken of. They share the memory that neither writes.
func (s *Snapshot) Fork() (*VM, error) { return open(s.options, s) }

// ForkWith is Fork with other options.
func (s *Snapshot) ForkWith(options Options) (*VM, error) { return open(options, s) }

// ID is 128 bits, as hexadecimal digits: equal contents have equal ones.
func (s *Snapshot) ID() (string, error) {
	var failure C.struct_thaw_error
	var id [16]byte
	code := C.thaw_vm_snapshot_id(s.pointer, (*C.uint8_t)(&id[0]), &failure)
	runtime.KeepAlive(s)
	return hex.EncodeToString(id[:]), failed(code, &failure)
}

// Bytes is all of it, or what has changed since another one (nil: none). They are not authenticated.
func (s *Snapshot) Bytes(since *Snapshot) ([]byte, error) {
	var failure C.struct_thaw_error
	var data unsafe.Pointer
	var bytes C.size_t
	var before *C.struct_thaw_vm_snapshot
	if since != nil {
		before = since.pointer
	}
	code := C.thaw_vm_snapshot_bytes(s.pointer, before, &data, &bytes, &failure)
	runtime.KeepAlive(s)
	runtime.KeepAlive(since)
	if err := failed(code, &failure); err != nil {
		return nil, err
	}
	defer C.free(data)
	return append([]byte{}, unsafe.Slice((*byte)(data), bytes)...), nil
}

// SnapshotFromBytes is what Bytes gave, wherever the same engine is; `base` is the one that it was made since (nil: none).
func SnapshotFromBytes(data []byte, base *Snapshot, maxBytes uint64) (*Snapshot, error) {
	var failure C.struct_thaw_error
	var pointer, before *C.struct_thaw_vm_snapshot
	var options Options
	if base != nil {
		before, options = base.pointer, base.options
	}
	var first unsafe.Pointer
	if len(data) > 0 {
		first = unsafe.Pointer(&data[0])
	}
	code := C.thaw_vm_snapshot_open(first, C.size_t(len(data)), before, C.uint64_t(maxBytes), &pointer, &failure)
	runtime.KeepAlive(base)
	if err := failed(code, &failure); err != nil {
		return nil, err
	}
	return snapshot(pointer, options), nil
}
