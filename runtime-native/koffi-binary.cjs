// Stands in for koffi's own entry when the shim is bundled: loads the binary of the bundled Node's platform directly.
// koffi's entry looks for the right binary and wraps deprecated functions, which costs every shim 10 ms at its start.
module.exports = require(`@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`);
