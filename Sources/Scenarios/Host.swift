public import ABIChecker
internal import KVM
public import VMBuilder

/// Who serves the clock of a host's machines, if not KVM itself.
public struct ClockMaker: Sendable {
  /// As reports name it.
  public var name: String
  /// What CPUID 0x40000001.EAX offers for it besides.
  public var features: UInt32
  /// One for each machine.
  public var make: @Sendable () -> any ClockServer

  public init(_ name: String, features: UInt32 = 0, make: @escaping @Sendable () -> any ClockServer)
  {
    self.name = name
    self.features = features
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

  init(_ plan: RunPlan, _ facts: HostFacts) throws(KVMError) {
    system = try KVMSystem(path: plan.device)
    cpuid = try system.supportedCPUID()
    clock = plan.clock
    sabotage = plan.sabotage
    var facts = facts
    facts.clock = plan.clock?.name
    self.facts = facts
  }

  convenience init(facts: HostFacts) throws(KVMError) {
    try self.init(RunPlan(rules: [], seed: 0), facts)
  }
}
