internal import ABIChecker
internal import KVM
internal import VMBuilder

// A VM that goes on from a saved one, its TSCs restored.

extension Stage {
  /// In kHz.
  var tscFrequency: UInt32 { host.facts.tscKHz ?? 2_000_000 }

  /// vCPUs that have run for hours, by their TSCs, and were saved.
  func saveRunningMachine(_ vcpus: [Int] = [0, 1]) throws -> SavedMachine {
    try makeMachine(vcpus: vcpus, highest: max(2, vcpus.max() ?? 0))
    for vcpu in vcpus { try register(vcpu) }
    try settleAndLook()
    var saved = try save(withTSC: true)
    let hours = UInt64(tscFrequency) * 1000 * 3600 * UInt64.random(in: 1...48, using: &random)
    for vcpu in saved.vcpus.keys { saved.vcpus[vcpu]?.tsc &+= hours }
    return saved
  }

  /// TSCs by IA32_TSC, or by KVM_VCPU_TSC_OFFSET; CPUID as it was set before.
  enum RestoreStep { case clock, records, tscs, offsets, cpuid }

  /// Goes on with `saved` in a new VM, one vCPU after the other.
  ///
  /// - Parameters:
  ///   - ahead: by how many cycles a vCPU's TSC is restored ahead of what was saved.
  ///   - parked: a vCPU that is made besides and never runs, and whether its TSC is restored.
  ///   - name: the new VM's, where it lives beside others.
  func restore(
    _ saved: SavedMachine, in order: [RestoreStep] = [.clock, .records, .tscs],
    ahead: [Int: Int64] = [:], parked: (vcpu: Int, isRestored: Bool)? = nil, named name: Int? = nil
  ) throws {
    let vcpus = saved.vcpus.keys.sorted()
    let all = vcpus + (parked.map { [$0.vcpu] } ?? [])
    try makeMachine(named: name, vcpus: all, highest: max(2, all.max() ?? 0))
    machine.memory.write(saved.memory, at: 0)
    records = saved.records
    for step in order {
      switch step {
      case .clock: try setClock(saved.clock.clock)
      case .records:
        for vcpu in vcpus {
          try hostWriteMSR(vcpu, MSR.systemTime, saved.vcpus[vcpu]!.systemTime)
        }
      case .tscs:
        for vcpu in vcpus {
          let tsc = saved.vcpus[vcpu]!.tsc
          try restoreTSC(vcpu, to: tsc &+ UInt64(bitPattern: ahead[vcpu] ?? 0))
        }
      case .offsets:
        // One for all: their TSCs go on in step.
        let offset = saved.vcpus[vcpus[0]]!.tsc &- Moment.before().tsc
        for vcpu in vcpus { try setTSCOffset(vcpu, offset) }
      case .cpuid: for vcpu in vcpus { try setCPUIDAgain(vcpu) }
      }
    }
    if let parked, parked.isRestored {
      try restoreTSC(parked.vcpu, to: saved.vcpus[vcpus[0]]!.tsc)
    }
  }

  /// Writes IA32_TSC, and takes as long as a VMM may between two vCPUs.
  func restoreTSC(_ vcpu: Int, to value: UInt64) throws {
    try hostWriteMSR(vcpu, MSR.tsc, value)
    try sleep(milliseconds: 2)
  }

  /// Each vCPU reads its clock and its TSC, then all enter twice and the host looks.
  func readAndSettle(except parked: Int? = nil) throws {
    let vcpus = machine.vcpus.filter { $0 != parked }
    for _ in 0..<2 {
      for vcpu in vcpus { try read(vcpu) }
    }
    for vcpu in vcpus { look(vcpu) }
    try getClock()
  }
}
