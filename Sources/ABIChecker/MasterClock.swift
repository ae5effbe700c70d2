internal import PVClock

// Whether the VM is in master-clock mode, as records and KVM_GET_CLOCK show it.

extension Step {
  /// The vCPU's own record, if the event shows it and it holds the newest pair for certain.
  var newestRecord: ClockPage? {
    guard after.holdsNewestPair else { return nil }
    return switch event.action {
    case .page(_, let address, let page) where after.record == address.value: page
    case .read(let address, _, let reading, settled: true) where after.record == address.value:
      reading.page
    default: nil
    }
  }

  /// Bit 0 of a record with the newest pair, or the flag of `KVM_GET_CLOCK`; nil if the event shows neither. Before the
  /// first entry `KVM_GET_CLOCK` never has the flag.
  var showsMasterClock: Bool? {
    if let page = newestRecord { return page.flags.contains(.tscStable) }
    guard case .getClock(let record) = event.action, machine.hasEntered else { return nil }
    return record.isTSCStable
  }
}

extension Findings {
  /// If the step shows the mode, the VM is in master-clock mode, or it is not, as `expected`. Covers `.masterClock()`.
  ///
  /// - Parameter cause: the event that brought the VM into this mode.
  /// - Returns: whether the step shows the mode.
  @discardableResult
  mutating func expectMasterClock(
    _ expected: Bool, at step: Step, since cause: Event? = nil, why: String? = nil
  ) -> Bool {
    let events = [cause, step.event].compactMap { $0 }
    if let page = step.newestRecord, let vcpu = step.vcpu {
      expectStable(expected, in: page, of: vcpu, at: events, why: why)
      cover(vcpu: vcpu, of: "records")
      return true
    }
    guard case .getClock(let record) = step.event.action, step.machine.hasEntered else {
      return false
    }
    expectStable(expected, in: record, at: events, why: why)
    count("results of KVM_GET_CLOCK")
    return true
  }
}

extension [Coverage] {
  /// Every record, or as many as given, and `KVM_GET_CLOCK`.
  static func masterClock(_ least: Int, _ when: String = "", records: Int? = nil) -> Self {
    [
      records.map { .different($0, "records") } ?? .everyVCPU("records"),
      .count(1, "results of KVM_GET_CLOCK"),
      .observations(least, "records and results of KVM_GET_CLOCK" + when),
    ]
  }
}
