"""The names that make a person look at a network file (grading.trials.flags), each under the code of its flag."""
import re

from thop.profile import register_hooks
from thop.vision.basic_hooks import zero_ops

# Layers that thop counts, by their exact type.
COUNTED = {kind.__name__ for kind, rule in register_hooks.items() if rule is not zero_ops} | {
    "Bilinear", "MultiheadAttention", "_ConvNd", "_ConvTransposeNd", "_BatchNorm", "_NormBase", "RNNBase"}

# What a code says to a person.
WORDS = {
    "THREADS": "threads, processes or code that starts by itself, which the dispatcher's counter does not see",
    "COUNTERS": "the counters or torch's dispatch machinery",
    "PATCH": "a change to what others define",
    "PARAMETRIZE": "parametrised layers, which thop does not count",
    "SUBCLASS": "a subclass of a layer that thop counts by its exact type",
    "FORWARD_CALL": "forward() called by hand, past thop's hooks",
    "HOOKS": "hooks, or a call of its own",
    "FILES": "files, environment or network beyond load_model's argument",
    "INTROSPECTION": "the interpreter's insides",
    "CODE": "code that is made while it runs",
    "ENCODED": "data that is decoded while it runs",
    "LONG": "long constants, which may be weights",
    "SEED": "random numbers from a fixed seed, which may stand for weights",
    "NUMPY": "arithmetic outside torch, which nothing counts",
    "SOURCE": "a source that could not be looked at",
}

# By the full name of what is imported, called or mentioned, aliases written out. A name that is neither imported nor
# one of BUILTINS is the file's own, whatever it is called.
BUILTINS = {"exec", "eval", "compile", "__import__", "globals", "locals", "vars", "breakpoint", "bytes", "bytearray",
            "int", "float", "__builtins__", "__file__", "__path__", "__spec__", "__loader__"}
NAMES = {code: re.compile(pattern) for code, pattern in {
    "THREADS": r"(threading|_thread|multiprocessing|concurrent|asyncio|subprocess|pty|signal|atexit|sched|"
               r"torch\.(multiprocessing|distributed|futures|nn\.parallel|nn\.DataParallel|jit\._?(fork|wait)))(\..*)?|"
               r"os\.(fork\w*|system|popen|exec\w+|spawn\w+|posix_spawnp?|register_at_fork)|weakref\.finalize",
    "COUNTERS": r"thop(\..*)?|torch\.(library|_library|overrides|ops|_ops|_C|classes|_decomp|_dispatch|_subclasses|"
                r"utils\.(_python_dispatch|flop_counter|_mode_utils|cpp_extension|dlpack))(\..*)?",
    "PARAMETRIZE": r"torch\.(nn\.utils\.(parametriz\w+|weight_norm|spectral_norm|prune|stateless)|"
                   r"func\.functional_call)(\..*)?",
    "FILES": r"(mmap|shutil|tempfile|glob|zipfile|zipimport|tarfile|sqlite3|shelve|dbm|fileinput|linecache|tokenize|"
             r"pkgutil|socket|ssl|urllib|http|ftplib|requests|fcntl|select)(\..*)?|sys\.path(_\w+)?|"
             r"os\.(open|p?read\w*|p?write\w*|fdopen|dup2?|pipe2?|sendfile|listdir|scandir|f?walk|stat|link|symlink|"
             r"environb?|getenvb?|putenv|chdir|kill|_exit|memfd_create)|__file__|__path__|__spec__|__loader__",
    "INTROSPECTION": r"(ctypes|_ctypes|cffi|gc|inspect|traceback|dis|builtins|__builtins__|imp|runpy|code|codeop|"
                     r"tracemalloc|pdb|bdb|trace|pydoc|operator\.(attrgetter|methodcaller)|types\.(Code|Function|Cell|Frame)"
                     r"Type)(\..*)?|(builtins\.)?(globals|locals|vars|breakpoint)|"
                     r"sys\.(?!argv|version|maxsize|stdout|stderr|stdin|exit$|float_info|platform|byteorder|path).*",
    "CODE": r"(builtins\.)?(exec|eval|compile|__import__)|importlib(\..*)?|types\.new_class|marshal(\..*)?",
    "ENCODED": r"(base64|zlib|gzip|bz2|lzma|pickle|_pickle|dill|cloudpickle|joblib|codecs|binascii|quopri|uu|struct|"
               r"array)(\..*)?|torch\.frombuffer|bytes\.fromhex|bytearray\.fromhex|int\.from_bytes|float\.fromhex",
    "SEED": r"torch\.((cuda|random|mps)\.)?(manual_seed\w*|seed|set_rng_state|fork_rng|Generator)|"
            r"random\.(seed|Random)",
    "NUMPY": r"(numpy|scipy|cupy|numba|jax|pandas|cv2|sklearn|PIL|skimage|triton|tensorflow)(\..*)?",
}.items()}
# By the last part alone, whatever it is taken from.
ATTRIBUTES = {code: re.compile(pattern) for code, pattern in {
    "COUNTERS": r"__torch_(dispatch|function)__|_disable_current_modes|total_ops|total_params",
    "HOOKS": r"register_\w*hook\w*|_\w*(forward|backward)_\w*hooks\w*|_(wrapped_)?call_impl|_slow_forward",
    "INTROSPECTION": r"__(subclasses|globals|builtins|code|closure|defaults|kwdefaults|mro|bases?|getattribute|dict|"
                     r"reduce|reduce_ex|traceback|self|func|wrapped|weakref)__|mro|[fg]_(back|locals|globals|builtins)|"
                     r"(tb|gi|cr|ag)_(frame|next|code)|cell_contents",
    "SEED": r"manual_seed",
    "NUMPY": r"numpy|__array\w*__|tolist|data_ptr|(un)?typed_storage",
    "ENCODED": r"fromhex|from_bytes|__doc__",
}.items()}
FREE_TO_SET = re.compile(r"torch\.(backends|_dynamo\.config|_inductor\.config)\..*")
