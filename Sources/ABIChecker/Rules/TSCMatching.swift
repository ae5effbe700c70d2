internal import PVClock

// Section E of the catalogue: the master clock asks for TSC offsets that match.

extension Rule {
  static let tscMatching: [Rule] = [
    .tscMatchedAtCreate, .stableLostOffsetMismatch, .stableRegainedOffsetMatch, .stableLag,
  ]

  private static let matching =
    "arch/x86/kvm/x86.c, kvm_track_tsc_matching(); "
    + "Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET"

  static let tscMatchedAtCreate = Rule(
    "TSC-MATCHED-AT-CREATE",
    "All vCPUs of a VM are made with the same TSC offset, those that come while it runs too.",
    source: "arch/x86/kvm/x86.c, kvm_synchronize_tsc()",
    method:
      "KVM_VCPU_TSC_OFFSET of every new vCPU; later a value of one's own set and read back, to see that the attribute "
      + "says what is.",
    scenarios: [.tscMatching], since: "5.16",
    faults: ["kvm_synchronize_tsc() gives a late vCPU an offset of its own"]
  ) { timeline in
    guard let canBelieve = OffsetWalk(timeline).isReadBack else {
      return .notTested(reason: timeline.lacking ?? "no TSC offset was set and read back")
    }
    if let evidence = canBelieve.evidence { return .notTested(reason: evidence) }
    var findings = Findings()
    var first: (event: Event, cycles: UInt64)?
    var created: Set<Int> = []
    for event in timeline.history.events {
      switch event.action {
      case .vmCreated: (first, created) = (nil, [])
      case .vcpuCreated(let vcpu): created.insert(vcpu)
      // From here on the offsets are no longer those of the creation.
      case .setTSCOffset: (first, created) = (nil, [])
      case .tscOffset(let vcpu, let cycles) where created.remove(vcpu) != nil:
        guard let reference = first else {
          first = (event, cycles)
          continue
        }
        guard cycles == reference.cycles || timeline.isTSC else {
          findings.lacks("the host does not run on its TSC: it may be unstable, and offsets differ")
          continue
        }
        findings.expect(
          cycles == reference.cycles, at: [reference.event, event],
          "vcpu\(vcpu)'s TSC offset as the first vCPU's: \(Int64(bitPattern: reference.cycles)) cycles",
          seen: "\(Int64(bitPattern: cycles)) cycles")
      default: continue
      }
    }
    return findings.outcome(atLeast: 3, "vCPUs beside the first one", in: timeline)
  }

  static let stableLostOffsetMismatch = Rule(
    "STABLE-LOST-OFFSET-MISMATCH",
    "When the TSC offset of one vCPU is set to another value than the others have, the VM leaves master-clock mode: bit 0 "
      + "clears in every record at its vCPU's next entry, and KVM_GET_CLOCK no longer says KVM_CLOCK_TSC_STABLE.",
    source: matching,
    method:
      "Set one of two vCPUs' offset, read it back; that vCPU enters, then the other, then all; look.",
    scenarios: [.tscMatching], since: "5.16",
    faults: ["pvclock_update_vm_gtod_copy() does not ask whether the vCPUs' TSCs match"]
  ) { timeline in
    timeline.judgeOffsets(areEqual: false)
  }

  static let stableRegainedOffsetMatch = Rule(
    "STABLE-REGAINED-OFFSET-MATCH",
    "When all vCPUs have been given the same TSC offset again, master-clock mode returns.",
    source: matching, method: "Set the other vCPU's offset to the same value; all enter; look.",
    scenarios: [.tscMatching], since: "5.16",
    faults: ["kvm_track_tsc_matching() does not count a vCPU that follows"]
  ) { timeline in
    timeline.judgeOffsets(areEqual: true)
  }

  static let stableLag = Rule(
    "STABLE-LAG",
    "Whether KVM_GET_CLOCK still says KVM_CLOCK_TSC_STABLE between the setting of a TSC offset that differs and the next "
      + "entry, at which the VM leaves master-clock mode.",
    source: "arch/x86/kvm/x86.c, get_kvmclock() and KVM_REQ_MASTERCLOCK_UPDATE",
    method: "KVM_GET_CLOCK after the setting, and again after every vCPU entered.",
    scenarios: [.tscMatching], since: "5.16", isObservation: true
  ) { timeline in
    var wasStable = false
    var isFresh = false
    var atOnce: Bool?
    var lagging: [Bool] = []
    for event in timeline.history.events {
      if case .vcpu = event.actor { isFresh = false }
      switch event.action {
      case .vmCreated: (wasStable, isFresh, atOnce) = (false, false, nil)
      case .setTSCOffset: (isFresh, atOnce) = (wasStable, nil)
      case .getClock(let record):
        if isFresh {
          (isFresh, atOnce) = (false, record.isTSCStable)
        } else if let flag = atOnce, !record.isTSCStable {
          lagging.append(flag)
          atOnce = nil
        }
        wasStable = record.isTSCStable
      default: continue
      }
    }
    guard let first = lagging.first else {
      return .notTested(
        reason: timeline.lacking ?? "no setting of a TSC offset took the master clock away")
    }
    let same = lagging.allSatisfy { $0 == first }
    return .observed(
      value: "after \(lagging.count) settings the flag is "
        + (!same ? "now set, now clear" : first ? "still set" : "clear at once")
        + " before the next entry, clear after it")
  }
}

/// What a history says of KVM_VCPU_TSC_OFFSET: whether a value that is set takes effect.
struct OffsetWalk {
  /// nil if no value was set and read back; `evidence` if one did not take effect.
  private(set) var isReadBack: (event: Event, evidence: String?)?

  init(_ timeline: Timeline) {
    var wanted: [Int: UInt64] = [:]
    for event in timeline.history.events {
      switch event.action {
      case .vmCreated: wanted = [:]
      case .setTSCOffset(let vcpu, let cycles): wanted[vcpu] = cycles
      case .tscOffset(let vcpu, let cycles):
        guard let set = wanted.removeValue(forKey: vcpu) else { continue }
        let evidence =
          "KVM_VCPU_TSC_OFFSET: set to \(Int64(bitPattern: set)) cycles, it reads back as "
          + "\(Int64(bitPattern: cycles))"
        if cycles != set { isReadBack = (event, evidence) }
        isReadBack = isReadBack ?? (event, nil)
      default: continue
      }
    }
  }
}

/// The TSC offsets of a machine's vCPUs as user space set them.
private struct Offsets {
  var created: Set<Int> = []
  var values: [Int: UInt64] = [:]
  /// The value that was set last, and every vCPU that was given it since another value was set.
  var run: (cycles: UInt64, vcpus: Set<Int>)?
  var setting: Event?

  /// Whether all are equal, and by settings that follow each other; nil where that is not clear.
  var areEqual: Bool? {
    guard created.count >= 2, Set(values.keys) == created, let run else { return nil }
    if Set(values.values).count > 1 { return false }
    return run.vcpus == created ? true : nil
  }

  mutating func take(_ event: Event) {
    switch event.action {
    case .vmCreated: self = Offsets()
    case .vcpuCreated(let vcpu):
      created.insert(vcpu)
      (run, setting) = (nil, nil)
    case .tscOffset(let vcpu, let cycles): values[vcpu] = cycles
    case .setTSCOffset(let vcpu, let cycles):
      values[vcpu] = cycles
      setting = event
      if run?.cycles == cycles { run?.vcpus.insert(vcpu) } else { run = (cycles, [vcpu]) }
    default: break
    }
  }
}

extension Timeline {
  /// After settings of TSC offsets, and an entry of the vCPU set last and then of every vCPU looked at, records and
  /// KVM_GET_CLOCK are in master-clock mode just if all offsets are equal.
  fileprivate func judgeOffsets(areEqual wanted: Bool) -> Outcome {
    if let evidence = OffsetWalk(self).isReadBack?.evidence {
      return .notTested(reason: evidence)
    }
    var findings = Findings()
    var offsets = Offsets()
    var newest = NewestPair()
    var wasStable = false
    var wasLost = false
    for event in history.events {
      _ = newest.take(event)
      offsets.take(event)
      if case .vmCreated = event.action { (wasStable, wasLost) = (false, false) }
      let isReady = !newest.awaitsRetunedVCPU && offsets.areEqual == wanted
      guard let (flag, what, seen) = stableFlag(event, newest) else { continue }
      if offsets.setting == nil {
        wasStable = wasStable || flag
      } else if !newest.awaitsRetunedVCPU, offsets.areEqual == false, !flag {
        wasLost = true
      }
      guard isReady, let setting = offsets.setting else { continue }
      guard wasStable, !wanted || wasLost else {
        findings.lacks("the VM had no master clock before a TSC offset was set, or did not lose it")
        continue
      }
      findings.expect(
        flag == wanted, at: [setting, event],
        "\(what) \(wanted ? "set: all TSC offsets are equal again" : "clear: the TSC offsets differ")",
        seen: seen)
    }
    return findings.outcome(
      atLeast: 6, "records and KVM_GET_CLOCK after settings of a TSC offset", in: self)
  }

  /// Bit 0 of a record that has the newest pair, or KVM_GET_CLOCK's word.
  private func stableFlag(
    _ event: Event, _ newest: NewestPair
  ) -> (flag: Bool, what: String, seen: String)? {
    switch event.action {
    case .getClock(let record) where newest.hasEntered:
      (record.isTSCStable, "KVM_CLOCK_TSC_STABLE", "flags \(Hex(record.flags))")
    case .page(let vcpu, _, let page) where newest.isHeld(by: vcpu):
      (
        page.flags.contains(.tscStable), "bit 0 of vcpu\(vcpu)'s record",
        "flags \(Hex(UInt64(page.flags.rawValue)))"
      )
    default: nil
    }
  }
}
