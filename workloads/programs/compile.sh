# A C program of 150 functions: made, compiled with optimisation, run. What is printed is what
# the program computes, so that it is the same with every version of the compiler.
set -eu
awk 'BEGIN {
    print "#include <stdio.h>\n#include <stdint.h>\n#include <string.h>"
    for (f = 0; f < 150; f++) {
        printf "struct s%d { uint32_t a[%d]; uint64_t b; struct { uint16_t x, y; } c[%d]; };\n", f, 4 + f % 5, 2 + f % 3
        printf "static uint64_t f%d(uint64_t n, struct s%d *s) {\n    uint64_t sum = n;\n", f, f
        printf "    for (uint32_t i = 0; i < %d; i++) {\n", 4 + f % 5
        printf "        s->a[i] = (uint32_t)(sum * %du + i); sum ^= (uint64_t)s->a[i] << (i %% 13);\n", 2 * f + 3
        printf "        switch (sum %% 7) { case 0: s->b += i; break; case 1: s->b ^= sum; break; case 2: s->b *= 3; break; case 5: sum += s->b; break; default: sum -= %d; }\n    }\n", f
        printf "    for (int i = 0; i < %d; i++) { s->c[i].x = (uint16_t)sum; s->c[i].y = (uint16_t)(s->b >> i); sum += s->c[i].x * (uint64_t)s->c[i].y; }\n", 2 + f % 3
        print "    return sum * 31 + s->b;\n}"
    }
    print "int main(void) {\n    uint64_t sum = 1;"
    print "    for (int turn = 0; turn < 50; turn++) {"
    for (f = 0; f < 150; f++)
        printf "        { struct s%d s; memset(&s, 0, sizeof s); sum = f%d(sum + turn, &s); }\n", f, f
    print "    }\n    printf(\"%llu\\n\", (unsigned long long)sum);\n    return 0;\n}"
}' > program.c
gcc -O2 -o program program.c
./program
wc -l < program.c
