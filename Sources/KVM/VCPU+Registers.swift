public import CKVM

/// The general-purpose registers, RIP and RFLAGS.
public typealias Registers = kvm_regs

/// Segments, descriptor tables, control registers, EFER and the APIC's base.
public typealias SpecialRegisters = kvm_sregs

/// A segment register with its hidden part.
public typealias Segment = kvm_segment

/// A descriptor-table register.
public typealias DescriptorTable = kvm_dtable

extension VCPU {
  /// The general-purpose registers, RIP and RFLAGS.
  ///
  /// The corresponding request is `KVM_GET_REGS`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func registers() throws(KVMError) -> Registers {
    var registers = kvm_regs()
    try check("KVM_GET_REGS", ckvm_get_regs(descriptor.raw, &registers))
    return registers
  }

  /// Sets the general-purpose registers, RIP and RFLAGS.
  ///
  /// The corresponding request is `KVM_SET_REGS`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setRegisters(_ registers: Registers) throws(KVMError) {
    var registers = registers
    try check("KVM_SET_REGS", ckvm_set_regs(descriptor.raw, &registers))
  }

  /// Segments, descriptor tables and control registers.
  ///
  /// The corresponding request is `KVM_GET_SREGS`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func specialRegisters() throws(KVMError) -> SpecialRegisters {
    var registers = kvm_sregs()
    try check("KVM_GET_SREGS", ckvm_get_sregs(descriptor.raw, &registers))
    return registers
  }

  /// Sets segments, descriptor tables and control registers.
  ///
  /// The corresponding request is `KVM_SET_SREGS`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setSpecialRegisters(_ registers: SpecialRegisters) throws(KVMError) {
    var registers = registers
    try check("KVM_SET_SREGS", ckvm_set_sregs(descriptor.raw, &registers))
  }

  /// The CPUID leaves that the guest sees.
  ///
  /// The corresponding request is `KVM_GET_CPUID2`, asked again with more room at `E2BIG`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func cpuid() throws(KVMError) -> [CPUIDEntry] {
    try cpuid(firstCapacity: 64)
  }

  func cpuid(firstCapacity: Int) throws(KVMError) -> [CPUIDEntry] {
    try readCPUID("KVM_GET_CPUID2", firstCapacity: firstCapacity) { header in
      ckvm_get_cpuid2(descriptor.raw, header)
    }
  }

  /// Sets the CPUID leaves that the guest sees, before it first runs.
  ///
  /// The corresponding request is `KVM_SET_CPUID2`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setCPUID(_ entries: [CPUIDEntry]) throws(KVMError) {
    let array = FlexibleArray(cpuidEntries: entries.count)
    for (slot, entry) in entries.enumerated() { array.elements[slot] = entry.kernelEntry }
    try check("KVM_SET_CPUID2", array.call { ckvm_set_cpuid2(descriptor.raw, $0) })
  }
}
