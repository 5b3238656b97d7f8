// Runs one block after another, the threads of a block as fibers.

#pragma once

#include <functional>

namespace emulator {

struct Launch {
    unsigned grid_x, grid_y, threads, shared;
    std::function<void()> kernel;
};

void run(const Launch& launch);

}  // namespace emulator
