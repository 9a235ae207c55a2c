// main > shop::Cart<int>::add > std::vector<char>'s constructor > memset, which faults.
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>

extern "C" void *untouchable(size_t size);
static volatile size_t length = 8000;

namespace shop {
template <class T> struct Cart {
	__attribute__((noinline)) void add(const std::string &name, T count)
	{
		std::string copy = name + std::to_string(count);
		try {
			fill(static_cast<char *>(untouchable(length)), copy);
		} catch (const std::runtime_error &) {
			throw;
		}
	}
	static inline __attribute__((always_inline)) void fill(char *memory, const std::string &copy)
	{
		std::memset(memory, copy[0], length);
	}
};
}

int main(int count, char **)
{
	shop::Cart<int> cart;
	cart.add("apple", count);
	return 0;
}
