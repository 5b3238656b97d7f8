// The kernels by name.

#pragma once

#include <functional>
#include <map>
#include <string>
#include <tuple>

namespace emulator {

// Makes a call of a kernel from the addresses of its arguments, which it copies.
using Binder = std::function<std::function<void()>(void** parameters)>;

const std::map<std::string, Binder>& kernels();

}  // namespace emulator
