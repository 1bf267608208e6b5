// Ends with 3; with an argument, once it has kept that many MiB on its heap.
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	if len(os.Args) > 1 {
		mebibytes, _ := strconv.Atoi(os.Args[1])
		kept := make([][]byte, mebibytes)
		for index := range kept {
			kept[index] = make([]byte, 1<<20)
			kept[index][index] = 1
		}
		fmt.Println("kept", len(kept), "MiB")
	}
	fmt.Println("Hello from Go!")
	os.Exit(3)
}
