internal import PVClock

// Section E of the catalogue: PVCLOCK_GUEST_STOPPED, and KVM_KVMCLOCK_CTRL that sets it.

extension Rule {
  static let guestStopped: [Rule] = [
    .kvmclockctrlEINVAL, .guestStoppedSet, .guestStoppedOneVCPU, .guestStoppedSticky,
    .guestStoppedGuestClears, .guestStoppedNotOnNewPage, .guestStoppedPending,
  ]

  private static let document = "Documentation/virt/kvm/api.rst, KVM_KVMCLOCK_CTRL"

  static let kvmclockctrlEINVAL = Rule(
    "KVMCLOCKCTRL-EINVAL",
    "KVM_KVMCLOCK_CTRL fails with EINVAL while the vCPU has no record registered: never yet, disabled by the guest or by "
      + "the host, or after INIT.",
    source: "\(document); arch/x86/kvm/x86.c, kvm_set_guest_paused()",
    method: "Ask in each of these states.",
    scenarios: [.guestStopped],
    faults: [
      "kvm_set_guest_paused() does not look whether a record is active",
      "kvmclock_reset() leaves the record active over INIT",
    ]
  ) { timeline in
    var findings = Findings()
    var states: Set<String> = []
    for answer in StoppedWalk(timeline).answers where !answer.isRegistered {
      states.insert(answer.reason)
      findings.expect(
        answer.errno == .invalidArgument, at: [answer.event],
        "EINVAL from KVM_KVMCLOCK_CTRL for vcpu\(answer.vcpu), whose record is \(answer.reason)",
        seen: answer.errno.description)
    }
    let wanted: Set = ["never registered", "disabled by the guest", "disabled by the host"]
    guard states.isSuperset(of: wanted) || !findings.violations.isEmpty else {
      return .notTested(
        reason: timeline.lacking ?? "asked only of records that are \(states.sorted())")
    }
    let all = states.sorted().joined(separator: ", ")
    return findings.outcome(atLeast: 6, "refusals of records that are \(all)", in: timeline)
  }

  static let guestStoppedSet = Rule(
    "GUESTSTOPPED-SET",
    "With a record registered KVM_KVMCLOCK_CTRL succeeds, and bit 1 comes up in the record at the vCPU's next entry, not "
      + "before.",
    source: "\(document); arch/x86/kvm/x86.c, kvm_setup_guest_pvclock()",
    method: "Look, ask, look, enter, look.",
    scenarios: [.guestStopped],
    faults: [
      "kvm_set_guest_paused() requests no update of the record",
      "the bit is written by the ioctl itself, before the entry",
      "KVM_KVMCLOCK_CTRL refused with a record registered",
    ]
  ) { timeline in
    let walk = StoppedWalk(timeline)
    var findings = Findings()
    for answer in walk.answers where answer.isServed {
      findings.expect(
        answer.errno == .none, at: [answer.event],
        "success of KVM_KVMCLOCK_CTRL for vcpu\(answer.vcpu), whose record is registered and served",
        seen: answer.errno.description)
    }
    let before = findings.judge(walk, .beforeEntry, "before the entry after KVM_KVMCLOCK_CTRL")
    let after = findings.judge(walk, .delivered, "after KVM_KVMCLOCK_CTRL and an entry")
    guard before >= 2 && after >= 2 || !findings.violations.isEmpty else {
      return findings.outcome(
        atLeast: .max, "records before and after the entry", in: timeline)
    }
    return findings.outcome(
      atLeast: 6, "answers, and records before and after the entry", in: timeline)
  }

  static let guestStoppedOneVCPU = Rule(
    "GUESTSTOPPED-ONE-VCPU",
    "KVM_KVMCLOCK_CTRL concerns one vCPU: bit 1 stays clear in every other one's record.",
    source: document,
    method: "Ask of one vCPU; all enter; look at the others.",
    scenarios: [.guestStopped],
    faults: ["the request is raised for every vCPU of the VM"]
  ) { timeline in
    let walk = StoppedWalk(timeline)
    var findings = Findings()
    _ = findings.judge(walk, .elsewhere, "after KVM_KVMCLOCK_CTRL for another vCPU")
    let asked = Set(walk.looks.filter { $0.concern == .elsewhere }.map(\.vcpu))
    return findings.outcome(
      atLeast: asked.count >= 2 ? 2 : .max, "records of the other of two vCPUs", in: timeline)
  }

  static let guestStoppedSticky = Rule(
    "GUESTSTOPPED-STICKY",
    "Once it is set, bit 1 stays over any number of updates until the guest clears it.",
    source: "\(document); arch/x86/kvm/x86.c, kvm_setup_guest_pvclock()",
    method:
      "KVM_SET_CLOCK and an entry, and the same record registered again, time after time; the version shows that the "
      + "record was written.",
    scenarios: [.guestStopped],
    faults: ["kvm_setup_guest_pvclock() does not carry the bit over an update"]
  ) { timeline in
    timeline.judge(.kept, atLeast: 10, "updates of a record with bit 1", "over an update")
  }

  static let guestStoppedGuestClears = Rule(
    "GUESTSTOPPED-GUEST-CLEARS",
    "After the guest cleared bit 1 the host does not set it again by itself.",
    source: document,
    method: "The guest clears the bit; updates as before.",
    scenarios: [.guestStopped],
    faults: ["kvm_setup_guest_pvclock() does not take the request back after it was served"]
  ) { timeline in
    timeline.judge(
      .cleared, atLeast: 10, "updates of a record whose bit 1 the guest had cleared",
      "after the guest cleared it")
  }

  static let guestStoppedNotOnNewPage = Rule(
    "GUESTSTOPPED-NOT-ON-NEW-PAGE",
    "The bit lives in the record that it was delivered to: one that the guest moves to afterwards comes without it.",
    source: "arch/x86/kvm/x86.c, kvm_setup_guest_pvclock(); Linux 24c166378026 (6.15)",
    method:
      "Bit 1 in a record; the guest registers fresh memory; look at that, also after updates.",
    scenarios: [.guestStopped],
    faults: ["the flag is kept in the vCPU's own copy and written to every record"]
  ) { timeline in
    timeline.judge(
      .moved, atLeast: 4, "looks at fresh records after one with bit 1",
      "in memory that was fresh when it was registered")
  }

  static let guestStoppedPending = Rule(
    "GUESTSTOPPED-PENDING",
    "What becomes of KVM_KVMCLOCK_CTRL if the record is taken away before the vCPU enters: whether bit 1 comes up in the "
      + "record registered next.",
    source: "arch/x86/kvm/x86.c, kvm_set_guest_paused()",
    method: "Ask; the host disables the record; the guest registers another one; look.",
    scenarios: [.guestStopped], isObservation: true
  ) { timeline in
    let looks = StoppedWalk(timeline).looks.filter { $0.concern == .pending }
    guard let first = looks.first else {
      return .notTested(reason: timeline.lacking ?? "no record was taken away after the request")
    }
    return .observed(
      value: first.isSet
        ? "bit 1 comes up in the record registered next: the request outlives the record"
        : "bit 1 does not come up in the record registered next (flags "
          + "\(Hex(UInt64(first.page.flags.rawValue))))")
  }
}

extension Findings {
  /// Holds every look that concerns this against what is expected; how many there were.
  fileprivate mutating func judge(
    _ walk: StoppedWalk, _ concern: StoppedLook.Concern, _ when: String
  ) -> Int {
    let looks = walk.looks.filter { $0.concern == concern }
    for look in looks {
      expect(
        look.isSet == look.expected, at: look.events,
        "bit 1 \(look.expected ? "set" : "clear") in vcpu\(look.vcpu)'s record \(when)",
        seen: "flags \(Hex(UInt64(look.page.flags.rawValue)))")
    }
    return looks.count
  }
}

extension Timeline {
  fileprivate func judge(
    _ concern: StoppedLook.Concern, atLeast minimum: Int, _ what: String, _ when: String
  ) -> Outcome {
    var findings = Findings()
    _ = findings.judge(StoppedWalk(self), concern, when)
    return findings.outcome(atLeast: minimum, what, in: self)
  }
}
