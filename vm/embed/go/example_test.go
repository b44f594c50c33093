// SPDX-License-Identifier: MIT

package thawvm_test

import (
	"fmt"
	"time"

	"thaw.invalid/thawvm"
)

func Example() {
	vm, err := thawvm.Open(thawvm.Options{
		MaxBytes: 64 << 20,
		Turn:     time.Second,
		Functions: map[string]thawvm.Func{
			"print": func(call *thawvm.Call) (any, error) {
				fmt.Println(call.Argument(0))
				return nil, nil
			},
		},
		Async: map[string]thawvm.AsyncFunc{ // in goroutines; the program gets promises
			"fetch": func(arguments []thawvm.Value) (any, error) {
				return map[string]any{"url": arguments[0], "status": 200}, nil
			},
		},
	})
	if err != nil {
		panic(err)
	}
	defer vm.Close()
	vm.RunScript("let n = 0; async function visit(url) { n++; print((await fetch(url)).url); return n }", "agent.js")
	value, err := vm.Call("visit", "https://a.example")
	fmt.Println(value.Integer(), err)
	before, _ := vm.Snapshot()
	vm.Call("visit", "https://b.example")
	fork, _ := before.Fork() // shares the memory that neither writes
	defer fork.Close()
	value, err = fork.Call("visit", "https://c.example")
	fmt.Println(value, err)
	_, err = fork.RunScript("null.x", "bad.js")
	fmt.Println(err)
	// Output:
	// https://a.example
	// 1 <nil>
	// https://b.example
	// https://c.example
	// 2 <nil>
	// TypeError: cannot read property 'x' of null
}
