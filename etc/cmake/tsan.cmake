# cmake -C etc/cmake/tsan.cmake -S . -B build-tsan
set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "")
set(TG_TESTS ON CACHE BOOL "")
set(TG_WERROR ON CACHE BOOL "")
set(TG_FAILPOINTS ON CACHE BOOL "")
set(TG_SANITIZE thread CACHE STRING "")
