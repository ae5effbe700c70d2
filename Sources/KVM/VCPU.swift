internal import CKVM
internal import Glibc

/// A vCPU, by its open descriptor and the memory that it shares with this process.
///
/// Who runs it or answers its exits has it alone, as the compiler sees to. Its `interrupter` alone may be used by any
/// thread at any time.
public struct VCPU: ~Copyable, Sendable {
  /// The number that the vCPU was made with, which is its initial APIC id.
  public let id: UInt32

  let descriptor: FileDescriptor
  let area: RunArea
  /// Its guest may write the memory of its VM's slots, also when the VM's owner has gone.
  let slots: Slots

  /// Takes over the descriptor of a vCPU and its shared memory.
  init(id: UInt32, owning descriptor: consuming FileDescriptor, area: RunArea, of slots: Slots) {
    self.id = id
    self.descriptor = descriptor
    self.area = area
    self.slots = slots
  }

  /// Runs the guest until something has to be done outside of it.
  ///
  /// A signal or the `interrupter` gives `.interrupted`. A vCPU that waits for its
  /// start-up interrupt keeps waiting.
  ///
  /// The corresponding request is `KVM_RUN`, retried at `EAGAIN`.
  /// - Throws: `KVMError` naming the request, with `errno`; `EIO` where KVM has killed the VM.
  public mutating func run() throws(KVMError) -> VCPUExit {
    var result: Int32
    repeat {
      result = ckvm_run(descriptor.raw, 0)
    } while result == -EAGAIN
    if result == -EINTR { return .interrupted }
    try check("KVM_RUN", result)
    return area.exit()
  }

  /// Asks a vCPU's runs to end, from any thread, also while one is under way.
  public struct Interrupter: Sendable {
    fileprivate let area: RunArea

    /// Makes this and every later run return `.interrupted` at once, until it is taken back.
    ///
    /// A run that is already inside the guest also needs a signal to its thread, which must not block
    /// it: a new thread has its creator's mask.
    ///
    /// The corresponding field is `immediate_exit` of `kvm_run`.
    public func requestImmediateExit(_ on: Bool) {
      area.setImmediateExit(on)
    }
  }

  /// What other threads end this vCPU's runs with: get it before the first run.
  public var interrupter: Interrupter { Interrupter(area: area) }

  /// Asks for `.interruptWindowOpen` as soon as the guest can take an interrupt.
  ///
  /// The corresponding field is `request_interrupt_window` of `kvm_run`.
  public mutating func requestInterruptWindow(_ on: Bool) {
    area.setRequestInterruptWindow(on)
  }

  /// Whether the guest could take an interrupt when it last stopped.
  ///
  /// The corresponding field is `ready_for_interrupt_injection` of `kvm_run`.
  public var isReadyForInterrupt: Bool {
    area.isReadyForInterrupt
  }

  /// Switches a capability on for this vCPU, with at most 4 arguments.
  ///
  /// The corresponding request is `KVM_ENABLE_CAP`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func enableCapability(
    _ capability: Capability, flags: UInt32 = 0, arguments: [UInt64] = []
  ) throws(KVMError) {
    var request = kvm_enable_cap(capability, flags: flags, arguments: arguments)
    try check("KVM_ENABLE_CAP", ckvm_enable_cap(descriptor.raw, &request))
  }
}
