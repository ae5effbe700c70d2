internal import PVClock

// Master-clock mode needs TSC offsets that match.

extension Rule {
  static let tscMatching: [Rule] = [
    .tscMatchedAtCreate, .stableLostOffsetMismatch, .stableRegainedOffsetMatch, .stableLag,
  ]

  private static let readBack = "TSC offsets that were set and read back"

  private static let onceAndTwice = Coverage.each(["once", "twice"], "settings of a TSC offset")

  static let tscMatchedAtCreate = Rule(
    "TSC-MATCHED-AT-CREATE",
    "All vCPUs of a VM are created with the same TSC offset, even those created while it runs.",
    sources: [.commit("Linux f38e098ff3a3 (2.6.37)"), .x86("kvm_synchronize_tsc()")],
    method:
      "Read KVM_VCPU_TSC_OFFSET of every new vCPU; later set another value and read it back, to see that the attribute "
      + "works.",
    scenarios: [.tscMatching],
    coverage: [
      .count(1, readBack), .count(1, "vCPUs made while the VM ran"),
      .observations(3, "vCPUs beside the first one"),
    ], needs: [.tscOffset]
  ) { timeline, findings in
    guard findings.trustsTSCOffsets(of: timeline) else { return }
    findings.count(readBack, by: UInt64(timeline.offsetsReadBack.count))
    for machine in timeline.machines {
      var first: (event: Event, cycles: UInt64)?
      for step in machine.steps.prefix(while: { !$0.machine.mayBeUnmatched }) {
        guard case .tscOffset(let vcpu, let cycles) = step.event.action, step.after.isCreated,
          step.before.tscOffset == nil
        else { continue }
        guard let reference = first else {
          first = (step.event, cycles)
          continue
        }
        guard cycles == reference.cycles || timeline.isTSC else {
          findings.lacks("the host does not run on its TSC: it may be unstable, and offsets differ")
          continue
        }
        findings.expect(
          cycles == reference.cycles, at: [reference.event, step.event],
          "vcpu\(vcpu)'s TSC offset as the first vCPU's: \(Int64(bitPattern: reference.cycles)) cycles",
          seen: "\(Int64(bitPattern: cycles)) cycles")
        if step.after.isLate { findings.count("vCPUs made while the VM ran") }
      }
    }
  }

  static let stableLostOffsetMismatch = Rule(
    "STABLE-LOST-OFFSET-MISMATCH",
    "When the TSC offset of one vCPU is set, once or twice, to another value than the others have, the VM leaves master-clock "
      + "mode: bit 0 is clear in every record from its vCPU's next entry on, and KVM_GET_CLOCK no longer returns "
      + "KVM_CLOCK_TSC_STABLE.",
    sources: [.commit("Linux b48aa97e3820 (3.8)"), .x86("kvm_track_tsc_matching()")],
    method:
      "Set one of two vCPUs' offset and read it back; that vCPU enters, then the other, then both; read the records and "
      + "KVM_GET_CLOCK; all of it again.",
    scenarios: [.tscMatching],
    coverage: .masterClock(6, " while the TSC offsets differ", records: 2) + [onceAndTwice],
    needs: [.tscOffset, .masterClock]
  ) { timeline, findings in
    findings.expectMasterClock(whereOffsetsAreEqual: false, in: timeline)
  }

  static let stableRegainedOffsetMatch = Rule(
    "STABLE-REGAINED-OFFSET-MATCH",
    "When user space has set all vCPUs, one after another, once or twice, to the same TSC offset again, master-clock mode "
      + "returns.",
    sources: [.x86("kvm_track_tsc_matching()")],
    method:
      "Set the other vCPU's offset to the same value; all enter; read the records and KVM_GET_CLOCK; all of it again.",
    scenarios: [.tscMatching],
    coverage: .masterClock(6, " after the TSC offsets were equal again", records: 2) + [
      onceAndTwice
    ],
    needs: [.tscOffset, .masterClock]
  ) { timeline, findings in
    findings.expectMasterClock(whereOffsetsAreEqual: true, in: timeline)
  }

  static let stableLag = Rule(
    "STABLE-LAG",
    "Whether KVM_GET_CLOCK still returns KVM_CLOCK_TSC_STABLE after a TSC offset that differs was set and before the next "
      + "entry, at which the VM leaves master-clock mode.",
    sources: [.x86("get_kvmclock() and KVM_REQ_MASTERCLOCK_UPDATE")],
    method: "KVM_GET_CLOCK after the setting, and again after every vCPU entered.",
    scenarios: [.tscMatching], needs: [.tscOffset, .masterClock], isObservation: true
  ) { timeline, findings in
    // For each setting after which the flag was clear in the end: the flag before the next entry.
    var flags: [Bool] = []
    for machine in timeline.machines {
      var isMasterClock = false
      var awaitsFlag = false
      var early: Bool?
      for step in machine.steps {
        if step.isEntry { awaitsFlag = false }
        switch step.event.action {
        case .setTSCOffset: (awaitsFlag, early) = (isMasterClock, nil)
        case .getClock(let record):
          if awaitsFlag {
            (awaitsFlag, early) = (false, record.isTSCStable)
          } else if let flag = early, !record.isTSCStable {
            flags.append(flag)
            early = nil
          }
          isMasterClock = record.isTSCStable
        default: continue
        }
      }
    }
    guard let first = flags.first else {
      return findings.lacks("no setting of a TSC offset took the master clock away")
    }
    let isAlwaysSame = flags.allSatisfy { $0 == first }
    findings.report(
      "after \(flags.count) settings the flag is "
        + (!isAlwaysSame ? "now set, now clear" : first ? "still set" : "clear at once")
        + " before the next entry, clear after it")
  }
}

extension Timeline {
  /// TSC offsets that user space set, with the value read next.
  fileprivate var offsetsReadBack: [(set: UInt64, got: UInt64)] {
    steps.compactMap { step in
      guard case .tscOffset(_, let got) = step.event.action, step.before.isTSCOffsetSet,
        let set = step.before.tscOffset
      else { return nil }
      return (set, got)
    }
  }
}

extension Findings {
  /// False, with the reason, if a TSC offset that was set reads back as another value.
  fileprivate mutating func trustsTSCOffsets(of timeline: Timeline) -> Bool {
    guard let ignored = timeline.offsetsReadBack.first(where: { $0.set != $0.got }) else {
      return true
    }
    lacks(
      "KVM_VCPU_TSC_OFFSET: set to \(Int64(bitPattern: ignored.set)) cycles, it reads back as "
        + "\(Int64(bitPattern: ignored.got))")
    return false
  }

  /// Where user space left all TSC offsets equal, or some different, and every vCPU whose offset was set has entered,
  /// the VM is in master-clock mode just if they are equal.
  fileprivate mutating func expectMasterClock(
    whereOffsetsAreEqual wanted: Bool, in timeline: Timeline
  ) {
    guard trustsTSCOffsets(of: timeline) else { return }
    for machine in timeline.machines {
      // Whether the VM was seen in master-clock mode before the first setting, and out of it while the offsets differed.
      var wasIn = false
      var wasOut = false
      for step in machine.steps where !step.machine.isBootVCPUOnOldMSR {
        guard let isMasterClock = step.showsMasterClock else { continue }
        guard let setting = step.machine.tscOffsetSetting else {
          wasIn = wasIn || isMasterClock
          continue
        }
        guard !step.machine.awaitsMovedVCPU, let areEqual = step.machine.areTSCOffsetsEqual else {
          continue
        }
        if !areEqual, !isMasterClock { wasOut = true }
        guard areEqual == wanted else { continue }
        guard wasIn, wasOut || !wanted else {
          lacks("the VM had no master clock before a TSC offset was set, or did not lose it")
          continue
        }
        let isUseful = expectMasterClock(
          wanted, at: step, since: setting,
          why: wanted ? "all TSC offsets are equal again" : "the TSC offsets differ")
        guard isUseful else { continue }
        cover(step.machine.isTSCOffsetSetTwice ? "twice" : "once", of: "settings of a TSC offset")
      }
    }
  }
}
