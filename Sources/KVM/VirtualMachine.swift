internal import CKVM
internal import Synchronization

/// A VM, by its open descriptor; the kernel keeps it until its vCPUs are gone as well.
///
/// It keeps the memory of its slots, and so does each of its vCPUs.
public struct VirtualMachine: ~Copyable, Sendable {
  let descriptor: FileDescriptor
  let slots = Slots()
  private let vcpuMappingSize: Int

  /// Takes over the descriptor of a VM; `vcpuMappingSize` is in bytes.
  init(owning descriptor: consuming FileDescriptor, vcpuMappingSize: Int) {
    self.descriptor = descriptor
    self.vcpuMappingSize = vcpuMappingSize
  }

  /// Adds a vCPU, with the memory that it shares with this process.
  ///
  /// The corresponding request is `KVM_CREATE_VCPU`.
  /// - Throws: `KVMError` naming the request or `mmap`, with `errno`.
  public func createVCPU(id: UInt32) throws(KVMError) -> VCPU {
    let result = try check("KVM_CREATE_VCPU", ckvm_create_vcpu(descriptor.raw, UInt(id)))
    let vcpu = FileDescriptor(owning: result)
    let area = RunArea(try Mapping(shared: vcpu, size: vcpuMappingSize))
    return VCPU(id: id, owning: vcpu, area: area, of: slots)
  }

  /// What this kernel says about a capability for this VM: 0 for absent, else 1 or a number.
  ///
  /// The corresponding request is `KVM_CHECK_EXTENSION`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func checkExtension(_ capability: Capability) throws(KVMError) -> Int32 {
    let result = ckvm_check_extension(descriptor.raw, UInt(capability.rawValue))
    return try check("KVM_CHECK_EXTENSION", result)
  }

  /// Switches a capability on for the whole VM, with at most 4 arguments.
  ///
  /// The corresponding request is `KVM_ENABLE_CAP`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func enableCapability(
    _ capability: Capability, flags: UInt32 = 0, arguments: [UInt64] = []
  ) throws(KVMError) {
    var request = kvm_enable_cap(capability, flags: flags, arguments: arguments)
    try check("KVM_ENABLE_CAP", ckvm_enable_cap(descriptor.raw, &request))
  }

  /// Makes the in-kernel interrupt controllers, after which HLT waits in the kernel.
  ///
  /// The corresponding request is `KVM_CREATE_IRQCHIP`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func createIRQChip() throws(KVMError) {
    try check("KVM_CREATE_IRQCHIP", ckvm_create_irqchip(descriptor.raw, 0))
  }

  /// Says which MSR accesses of the guest KVM handles itself.
  ///
  /// The corresponding request is `KVM_X86_SET_MSR_FILTER`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setMSRFilter(_ filter: MSRFilter) throws(KVMError) {
    let result = try filter.withKernelFilter { ckvm_x86_set_msr_filter(descriptor.raw, &$0) }
    try check("KVM_X86_SET_MSR_FILTER", result)
  }

  /// Gives KVM three pages of guest-physical address space that Intel's real mode needs.
  ///
  /// The corresponding request is `KVM_SET_TSS_ADDR`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setTSSAddress(_ guestPhysicalAddress: UInt64) throws(KVMError) {
    let result = ckvm_set_tss_addr(descriptor.raw, UInt(guestPhysicalAddress))
    try check("KVM_SET_TSS_ADDR", result)
  }

  /// Gives KVM one page of guest-physical address space for an identity map; before any vCPU.
  ///
  /// The corresponding request is `KVM_SET_IDENTITY_MAP_ADDR`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setIdentityMapAddress(_ guestPhysicalAddress: UInt64) throws(KVMError) {
    var address = guestPhysicalAddress
    try check("KVM_SET_IDENTITY_MAP_ADDR", ckvm_set_identity_map_addr(descriptor.raw, &address))
  }
}

/// The memory that stands in each slot of a VM now. A guest writes it for as long as one of its vCPUs is there.
final class Slots: Sendable {
  private let mappings = Mutex<[UInt32: Mapping]>([:])
  private let others = Mutex<[Mapping]>([])

  /// One change at a time: the kernel's slots and these must not differ.
  func withLock(_ body: (inout [UInt32: Mapping]) -> Int32) -> Int32 {
    mappings.withLock { body(&$0) }
  }

  /// Keeps memory that KVM writes by an address of this process, in a slot or not.
  func keep(_ mapping: Mapping) {
    others.withLock { others in
      if !others.contains(where: { $0 === mapping }) { others.append(mapping) }
    }
  }
}
