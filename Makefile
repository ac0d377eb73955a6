# The habits of the original project. Everything is built by cargo.

CARGO ?= cargo

.PHONY: test lib clean

# `make`: compiles and runs the tests.
test:
	$(CARGO) test

# `make lib`: leaves ./mylibmalloc.so, for `LD_PRELOAD=./mylibmalloc.so ls`, and the page list beside it.
lib:
	$(CARGO) run --quiet -- lib --out mylibmalloc.so
	$(CARGO) run --quiet -- lib --allocator pagelist --out mylibmalloc-pagelist.so

clean:
	$(CARGO) clean
	rm -f mylibmalloc.so mylibmalloc-pagelist.so
