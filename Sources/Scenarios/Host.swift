public import ABIChecker
public import KVM
public import VMBuilder

/// Who serves the clock of a host's machines, if not KVM itself.
public struct ClockMaker: Sendable {
  /// As reports name it.
  public var name: String
  /// One for each machine.
  public var make: @Sendable () -> any ClockServer

  public init(_ name: String, make: @escaping @Sendable () -> any ClockServer) {
    self.name = name
    self.make = make
  }
}

/// The host that scenarios run on: its KVM, and what was found out about it once.
public final class Host: Sendable {
  let system: KVMSystem
  let cpuid: [CPUIDEntry]
  public let facts: HostFacts
  let clock: ClockMaker?
  let sabotage: Sabotage?

  public init(
    device: String = "/dev/kvm", facts: HostFacts, clock: ClockMaker? = nil,
    sabotage: Sabotage? = nil
  ) throws(KVMError) {
    system = try KVMSystem(path: device)
    cpuid = try system.supportedCPUID()
    var facts = facts
    facts.clock = clock?.name
    self.facts = facts
    self.clock = clock
    self.sabotage = sabotage
  }
}
