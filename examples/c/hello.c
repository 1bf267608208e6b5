/* Greets, and shows what it was started with: a preview-1 module from C.
 *
 *     clang-19 --target=wasm32-wasi -Os -o hello-c.wasm hello.c
 *     wasmatrix run hello-c.wasm arg1 arg2
 *
 * Wasmatrix adapts it to a component when it takes it in.
 */
#include <stdio.h>

int main(int argc, char **argv) {
    puts("Hello from C!");
    for (int position = 1; position < argc; position++) {
        printf("argument %d: %s\n", position, argv[position]);
    }
    return 0;
}
