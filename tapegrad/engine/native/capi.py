"""The functions of CPython and libc that compiled engine code calls."""

from tapegrad.engine.native.pointers import F64, I64, VOID, call_pointer, external

py_type_alloc = external("PyType_GenericAlloc", I64, I64, I64)
py_incref = external("Py_IncRef", VOID, I64)
py_decref = external("Py_DecRef", VOID, I64)
py_vectorcall = external("PyObject_Vectorcall", I64, I64, I64, I64, I64)
py_long_as_i64 = external("PyLong_AsLongLong", I64, I64)
py_long_from_i64 = external("PyLong_FromLongLong", I64, I64)
py_bool_from_i64 = external("PyBool_FromLong", I64, I64)
py_list_new = external("PyList_New", I64, I64)
py_float_as_f64 = external("PyFloat_AsDouble", F64, I64)
py_float_from_f64 = external("PyFloat_FromDouble", I64, F64)
py_error_occurred = external("PyErr_Occurred", I64)
py_error_clear = external("PyErr_Clear", VOID)
py_error_fetch = external("PyErr_Fetch", VOID, I64, I64, I64)
py_error_restore = external("PyErr_Restore", VOID, I64, I64, I64)
py_thread_state = external("PyThreadState_Get", I64)
py_thread_id = external("PyThreadState_GetID", I64, I64)
raw_malloc = external("PyMem_RawMalloc", I64, I64)
raw_realloc = external("PyMem_RawRealloc", I64, I64, I64)
raw_free = external("PyMem_RawFree", VOID, I64)

call_kernel = call_pointer(VOID, I64, I64, I64)  # kernel(args, start, stop)
