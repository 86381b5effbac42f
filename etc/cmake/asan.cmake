# cmake -C etc/cmake/asan.cmake -S . -B build-asan
set(CMAKE_BUILD_TYPE Debug CACHE STRING "")
set(TG_TESTS ON CACHE BOOL "")
set(TG_WERROR ON CACHE BOOL "")
set(TG_FAILPOINTS ON CACHE BOOL "")
set(TG_SANITIZE address,undefined CACHE STRING "")
