internal import CKVM

/// One CPUID leaf, or one subleaf of it.
public struct CPUIDEntry: Hashable, Sendable {
  /// The leaf: EAX at the CPUID instruction.
  public var function: UInt32

  /// The subleaf: ECX at the CPUID instruction, where `flags` says that it matters.
  public var index: UInt32

  /// The kernel's `KVM_CPUID_FLAG_…` bits.
  public var flags: UInt32

  public var eax: UInt32
  public var ebx: UInt32
  public var ecx: UInt32
  public var edx: UInt32

  /// The bit of `flags` that makes `index` matter: `KVM_CPUID_FLAG_SIGNIFCANT_INDEX`.
  public static let significantIndex: UInt32 = 1

  public init(
    function: UInt32, index: UInt32 = 0, flags: UInt32 = 0, eax: UInt32 = 0, ebx: UInt32 = 0,
    ecx: UInt32 = 0, edx: UInt32 = 0
  ) {
    self.function = function
    self.index = index
    self.flags = flags
    self.eax = eax
    self.ebx = ebx
    self.ecx = ecx
    self.edx = edx
  }
}

extension CPUIDEntry {
  init(_ entry: kvm_cpuid_entry2) {
    self.init(
      function: entry.function, index: entry.index, flags: entry.flags, eax: entry.eax,
      ebx: entry.ebx, ecx: entry.ecx, edx: entry.edx)
  }

  var kernelEntry: kvm_cpuid_entry2 {
    kvm_cpuid_entry2(
      function: function, index: index, flags: flags, eax: eax, ebx: ebx, ecx: ecx, edx: edx,
      padding: (0, 0, 0))
  }
}
