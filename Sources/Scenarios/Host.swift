public import ABIChecker
public import KVM

/// The host that scenarios run on: its KVM, and what was found out about it once.
public final class Host: Sendable {
  let system: KVMSystem
  let cpuid: [CPUIDEntry]
  public let facts: HostFacts

  public init(device: String = "/dev/kvm", facts: HostFacts) throws(KVMError) {
    system = try KVMSystem(path: device)
    cpuid = try system.supportedCPUID()
    self.facts = facts
  }
}
