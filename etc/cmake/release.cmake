# cmake -C etc/cmake/release.cmake -S . -B build-release
set(CMAKE_BUILD_TYPE Release CACHE STRING "")
set(TG_TESTS ON CACHE BOOL "")
set(TG_WERROR ON CACHE BOOL "")
set(TG_FAILPOINTS OFF CACHE BOOL "")
