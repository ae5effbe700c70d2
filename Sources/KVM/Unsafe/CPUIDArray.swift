internal import CKVM
internal import Glibc

/// How far the arrays grow for a kernel that keeps saying `E2BIG`.
enum FlexibleArrayLimit {
  static let elements = 1 << 16
}

/// Reads CPUID entries into arrays of doubling size, until the kernel has room enough.
///
/// - Throws: `KVMError` naming `request`, with `errno`.
func readCPUID(
  _ request: String, firstCapacity: Int, _ body: (UnsafeMutablePointer<kvm_cpuid2>) -> Int32
) throws(KVMError) -> [CPUIDEntry] {
  var capacity = max(firstCapacity, 1)
  while true {
    let array = FlexibleArray(cpuidEntries: capacity)
    let result = array.call(body)
    if result == -E2BIG, capacity < FlexibleArrayLimit.elements {
      capacity *= 2
      continue
    }
    try check(request, result)
    return array.elements.prefix(Int(array.header.pointee.nent)).map { CPUIDEntry($0) }
  }
}
