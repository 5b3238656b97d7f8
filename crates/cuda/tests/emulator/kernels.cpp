// The kernels' own source, compiled for the host, and its entries by name.

#include "kernels.h"

#include "host.h"

#include "../../kernels/intrinsic.cuh"

namespace fill {
#include "../../kernels/fill.cu"
}
namespace decode {
#include "../../kernels/decode.cu"
}
namespace product_sm80 {
#include "../../kernels/product_sm80.cu"
}
namespace product_sm75 {
#include "../../kernels/product_sm75.cu"
}
namespace tiny {
#include "../../kernels/tiny.cu"
}

namespace emulator {

namespace {

// Reads the arguments as the driver hands them over, an address for each.
template <typename... Arguments, size_t... PLACES>
std::tuple<Arguments...> read(void** parameters, std::index_sequence<PLACES...>) {
    return {*static_cast<Arguments*>(parameters[PLACES])...};
}

template <typename... Arguments>
Binder binder(void (*kernel)(Arguments...)) {
    return [kernel](void** parameters) -> std::function<void()> {
        const auto arguments = read<Arguments...>(parameters, std::index_sequence_for<Arguments...>());
        return [kernel, arguments] { std::apply(kernel, arguments); };
    };
}

}  // namespace

const std::map<std::string, Binder>& kernels() {
    static const std::map<std::string, Binder> table = {
        {"fill_f16", binder(fill::fill_f16)},
        {"fill_bf16", binder(fill::fill_bf16)},
        {"fill_words", binder(fill::fill_words)},
        {"count_wrong_words", binder(fill::count_wrong_words)},
        {"count_not_finite", binder(fill::count_not_finite)},
        {"matrix_vector_1", binder(decode::matrix_vector_1)},
        {"matrix_vector_2", binder(decode::matrix_vector_2)},
        {"matrix_vector_4", binder(decode::matrix_vector_4)},
        {"matrix_vector_8", binder(decode::matrix_vector_8)},
        {"normalize", binder(decode::normalize)},
        {"feed_back", binder(decode::feed_back)},
        {"mix", binder(decode::mix)},
        {"product_wide", binder(product_sm80::product_wide)},
        {"product_narrow", binder(product_sm80::product_narrow)},
        {"product_plain", binder(product_sm75::product_plain)},
        {"count_up", binder(tiny::count_up)},
        {"write_word", binder(tiny::write_word)},
    };
    return table;
}

}  // namespace emulator
