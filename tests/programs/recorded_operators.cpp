// Every form of new and delete, once each, with a size of its own; then new without memory.
#include <cstdlib>
#include <new>
#include <unistd.h>

struct alignas(64) Wide { char bytes[64]; };
template <typename T> static T *kept(T *block) { asm volatile("" : "+r"(block) : : "memory"); return block; }

static int asked = 0;
static void handler() { if (++asked == 3) throw std::bad_alloc(); }

int main() {
  using std::align_val_t;
  using std::nothrow;
  ::operator delete(kept(::operator new(601)));
  ::operator delete[](kept(::operator new[](602)));
  ::operator delete(kept(::operator new(603, nothrow)), nothrow);
  ::operator delete[](kept(::operator new[](604, nothrow)), nothrow);
  ::operator delete(kept(::operator new(605, align_val_t(64))), align_val_t(64));
  ::operator delete[](kept(::operator new[](606, align_val_t(64))), align_val_t(64));
  ::operator delete(kept(::operator new(607, align_val_t(64), nothrow)), align_val_t(64), nothrow);
  ::operator delete[](kept(::operator new[](608, align_val_t(64), nothrow)), align_val_t(64), nothrow);
  ::operator delete(kept(::operator new(609)), std::size_t(609));
  ::operator delete[](kept(::operator new[](610)), std::size_t(610));
  ::operator delete(kept(::operator new(611, align_val_t(64))), std::size_t(611), align_val_t(64));
  ::operator delete[](kept(::operator new[](612, align_val_t(64))), std::size_t(612), align_val_t(64));
  ::operator delete(kept(::operator new(0)));

  volatile std::size_t huge = ~std::size_t(0) / 4;
  std::set_new_handler(handler);
  bool thrown = false;
  try { kept(::operator new(huge)); } catch (const std::bad_alloc &) { thrown = true; }
  if (!thrown || asked != 3) abort();
  std::set_new_handler(nullptr);
  if (kept(::operator new(huge, nothrow)) != nullptr) abort();
  _exit(0);
}
