# Two targets of llama.cpp do not bear that their sources are compiled as one.
cmake_language(DEFER CALL set_target_properties llama-common mtmd PROPERTIES UNITY_BUILD OFF)
