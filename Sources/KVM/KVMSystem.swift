internal import CKVM
internal import Glibc

/// The host's KVM, by the open descriptor of its device.
public struct KVMSystem: ~Copyable, Sendable {
  /// The one version of the interface that any kernel since 2.6.22 has.
  static let apiVersion: Int32 = 12

  private let descriptor: FileDescriptor

  /// Takes over a descriptor that nobody checked.
  init(owning descriptor: consuming FileDescriptor) {
    self.descriptor = descriptor
  }

  /// Opens KVM's device and checks that it is one, of API version 12.
  ///
  /// The corresponding request is `KVM_GET_API_VERSION`.
  /// - Throws: `KVMError` naming `open` and the path, or the request, with `errno` and a remedy.
  public init(path: String = "/dev/kvm") throws(KVMError) {
    let descriptor = try FileDescriptor(opening: path)
    try Self.checkVersion(ckvm_get_api_version(descriptor.raw, 0), path: path)
    self.init(owning: descriptor)
  }

  static func checkVersion(_ result: Int32, path: String) throws(KVMError) {
    let request = "KVM_GET_API_VERSION"
    guard result >= 0 else {
      throw KVMError(
        request: request, errno: -result, remedy: Remedy.ofOpening(path: path, errno: -result))
    }
    guard result == apiVersion else {
      throw KVMError(
        request: request, errno: EOPNOTSUPP,
        remedy: """
          \(path) speaks version \(result) of KVM's API, and \(apiVersion) is needed: use a kernel \
          that has it.
          """)
    }
  }

  /// The version of KVM's API, which is 12.
  ///
  /// The corresponding request is `KVM_GET_API_VERSION`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func version() throws(KVMError) -> Int32 {
    try check("KVM_GET_API_VERSION", ckvm_get_api_version(descriptor.raw, 0))
  }

  /// What this kernel says about a capability: 0 for absent, else 1 or a number of its own.
  ///
  /// The corresponding request is `KVM_CHECK_EXTENSION`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func checkExtension(_ capability: Capability) throws(KVMError) -> Int32 {
    let result = ckvm_check_extension(descriptor.raw, UInt(capability.rawValue))
    return try check("KVM_CHECK_EXTENSION", result)
  }

  /// The CPUID leaves that this host and its KVM can give a guest.
  ///
  /// The corresponding request is `KVM_GET_SUPPORTED_CPUID`, asked again with more room at `E2BIG`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func supportedCPUID() throws(KVMError) -> [CPUIDEntry] {
    try supportedCPUID(firstCapacity: 256)
  }

  func supportedCPUID(firstCapacity: Int) throws(KVMError) -> [CPUIDEntry] {
    try readCPUID("KVM_GET_SUPPORTED_CPUID", firstCapacity: firstCapacity) { header in
      ckvm_get_supported_cpuid(descriptor.raw, header)
    }
  }

  /// The MSRs that `VCPU.msr(_:)` can read on this host, by index.
  ///
  /// The corresponding request is `KVM_GET_MSR_INDEX_LIST`, asked again with more room at `E2BIG`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func msrIndexList() throws(KVMError) -> [UInt32] {
    try msrIndexList(firstCapacity: 256)
  }

  func msrIndexList(firstCapacity: Int) throws(KVMError) -> [UInt32] {
    var capacity = firstCapacity
    while true {
      let list = FlexibleArray(indices: capacity)
      let result = list.call { ckvm_get_msr_index_list(descriptor.raw, $0) }
      if result == -E2BIG, capacity < FlexibleArrayLimit.elements {
        // The kernel says how many there are, but a number that does not grow must not loop.
        capacity = max(Int(list.header.pointee.nmsrs), capacity + 1)
        continue
      }
      try check("KVM_GET_MSR_INDEX_LIST", result)
      return list.prefix(list.header.pointee.nmsrs)
    }
  }

  /// Makes a VM without memory and without vCPUs.
  ///
  /// The corresponding request is `KVM_CREATE_VM`, retried at `EINTR`.
  /// - Throws: `KVMError` naming the request or `KVM_GET_VCPU_MMAP_SIZE`, with `errno`.
  public func createVM(type: UInt = 0) throws(KVMError) -> VirtualMachine {
    var result: Int32
    repeat {
      result = ckvm_create_vm(descriptor.raw, type)
    } while result == -EINTR
    let machine = FileDescriptor(owning: try check("KVM_CREATE_VM", result))
    return VirtualMachine(owning: machine, vcpuMappingSize: try vcpuMappingSize())
  }

  /// The size of the memory that a vCPU shares with its user, in bytes.
  ///
  /// The corresponding request is `KVM_GET_VCPU_MMAP_SIZE`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func vcpuMappingSize() throws(KVMError) -> Int {
    Int(try check("KVM_GET_VCPU_MMAP_SIZE", ckvm_get_vcpu_mmap_size(descriptor.raw, 0)))
  }
}
