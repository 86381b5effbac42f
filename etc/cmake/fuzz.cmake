# cmake -C etc/cmake/fuzz.cmake -S . -B build-fuzz
set(CMAKE_C_COMPILER clang CACHE STRING "")
set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "")
set(TG_FUZZ ON CACHE BOOL "")
set(TG_WERROR ON CACHE BOOL "")
set(TG_SANITIZE address,undefined,fuzzer-no-link CACHE STRING "")
