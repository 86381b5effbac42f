# cmake -C etc/cmake/debug.cmake -S . -B build-debug
set(CMAKE_BUILD_TYPE Debug CACHE STRING "")
set(TG_TESTS ON CACHE BOOL "")
set(TG_WERROR ON CACHE BOOL "")
set(TG_FAILPOINTS ON CACHE BOOL "")
