// Section B of the catalogue: writing the system-time MSR, and the life of the page behind it.

extension Rule {
  static let registration: [Rule] = [
    .systimeEnable, .systimeRewriteKeepsTime, .systimeRewriteStorm, .systimeMoveFreezesOld,
    .systimeDisableFreezes, .systimeReenableKeepsTime, .msrReadback,
  ]

  static let systimeEnable = Rule(
    "SYSTIME-ENABLE",
    "A write of the system-time MSR with bit 0 set makes the record at the address valid before the guest's "
      + "next instruction.",
    source: "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW",
    method:
      "Fill the page with 0xa5; the guest writes the MSR and reads the record without an exit between.",
    scenarios: [.registration],
    faults: [
      "kvm_write_system_time() requests no update", "… only on vCPU 0",
      "kvm_setup_guest_pvclock() leaves the version odd",
    ]
  ) { timeline in
    var findings = Findings()
    findings.expectNoFault(in: timeline)
    for (write, read) in timeline.writesWithRead {
      guard case .read(let address, _, let reading, let settled) = read.action,
        timeline.wasFilled(address, before: write)
      else { continue }
      let page = reading.page
      let stale: UInt64 = 0xa5a5_a5a5_a5a5_a5a5
      findings.expect(
        settled && page.version % 2 == 0 && page.systemTime != stale && page.tscTimestamp != stale
          && page.scale.isNormalized,
        at: [write, read],
        "an even version, and system_time, tsc_timestamp and a multiplier of at least 2^31 written by the host",
        seen: describe(page))
    }
    return findings.outcome(atLeast: 2, "registrations of a page that held 0xa5", in: timeline)
  }

  static let systimeRewriteKeepsTime = Rule(
    "SYSTIME-REWRITE-KEEPS-TIME",
    "A guest may write the system-time MSR as often as it likes, on any vCPU, with the same or another address; "
      + "system time carries on: no restart, no step.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW; broken by Linux b7e60c5aedd2 (4.2)",
    method:
      "Read, wait, write the MSR, read at once; compare with CLOCK_MONOTONIC_RAW around both readings.",
    scenarios: [.rewrite], everywhere: true,
    faults: [
      "kvm_write_system_time() sets kvmclock_offset to minus the base on vCPU 0 (Linux 4.2)",
      "… on every vCPU, on vCPU 1 only, only where the address changes", "a slip of 200 us a write",
    ]
  ) { timeline in
    timeline.keepsTime(
      across: "writes of the MSR", atLeast: 6,
      why: "the time that CLOCK_MONOTONIC_RAW counted between the two readings; a write of the MSR "
        + "neither stops nor restarts the clock"
    ) { event in
      guard case .vcpu(let vcpu) = event.actor,
        case .wroteMSR(let msr, let value, nil) = event.action,
        msr.value == UInt64(MSR.systemTime), value.value & 1 == 1
      else { return nil }
      return vcpu
    }
  }

  static let systimeRewriteStorm = Rule(
    "SYSTIME-REWRITE-STORM",
    "While one vCPU writes the system-time MSR back to back, no vCPU's clock goes back.",
    source: "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW",
    method:
      "vCPU 0 writes and reads 1000 times while vCPU 1 reads its own record in ring 3 and watches vCPU 0's version: how "
      + "often that changed between two readings is how much the two did side by side.",
    scenarios: [.storm], faults: ["the restart of Linux 4.2", "… at the 700th write only"]
  ) { timeline in
    var findings = Findings()
    var storm = Storm()
    for event in timeline.history.events {
      guard case .looped(let guest, let result) = event.action else { continue }
      if guest == "rewriter" { storm.write(result) } else { storm.read(result) }
      guard result.unstable == 0 else { continue }
      findings.expect(
        result.backwards == 0, at: [event],
        "no step back in \(result.reads) readings of \(guest) on \(event.actor)",
        seen: describeSteps(result))
    }
    return storm.outcome(of: findings, isStable: true, in: timeline)
  }

  static let systimeMoveFreezesOld = Rule(
    "SYSTIME-MOVE-FREEZES-OLD",
    "Once a vCPU has registered another address, the old record is never written again.",
    source: "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW",
    method:
      "Register A, then B; set the clock from the host and enter; A keeps every byte, B changes.",
    scenarios: [.freeze], faults: ["a move leaves the old record registered as a second one"]
  ) { timeline in
    timeline.staysFrozen("moves") { oldValue, newValue in
      oldValue & 1 == 1 && newValue & 1 == 1 && oldValue != newValue
    }
  }

  static let systimeDisableFreezes = Rule(
    "SYSTIME-DISABLE-FREEZES",
    "A write of any value with bit 0 clear ends the updates; the last record stays as it is.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW (\"until anything with bit0 == 0 is "
      + "written to it\")",
    method:
      "Disable on one vCPU, set the clock from the host and enter; its record keeps every byte while "
      + "another vCPU's changes.",
    scenarios: [.freeze],
    faults: [
      "kvm_write_system_time() does not deactivate the page",
      "… deactivates it only for the value 0",
    ]
  ) { timeline in
    timeline.staysFrozen("writes with bit 0 clear") { oldValue, newValue in
      oldValue & 1 == 1 && newValue & 1 == 0
    }
  }

  static let systimeReenableKeepsTime = Rule(
    "SYSTIME-REENABLE-KEEPS-TIME",
    "Between disabling and enabling the clock time goes on; it does not restart.",
    source: "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW",
    method: "Read, write 0, wait, register again, read; compare with CLOCK_MONOTONIC_RAW.",
    scenarios: [.freeze],
    faults: ["kvmclock_offset 0, or minus the base, at a registration after a disable"]
  ) { timeline in
    var disabled: Set<Int> = []
    var separators: Set<Int> = []
    for event in timeline.history.events {
      guard case .vcpu(let vcpu) = event.actor,
        case .wroteMSR(let msr, let value, nil) = event.action,
        MSR.isSystemTime(msr)
      else { continue }
      if value.value & 1 == 0 { disabled.insert(vcpu) }
      if value.value & 1 == 1, disabled.remove(vcpu) != nil { separators.insert(event.number) }
    }
    return timeline.keepsTime(
      across: "pairs of disable and enable", atLeast: 1,
      why: "the time that CLOCK_MONOTONIC_RAW counted; the clock runs while it is disabled"
    ) { event in
      guard separators.contains(event.number), case .vcpu(let vcpu) = event.actor else {
        return nil
      }
      return vcpu
    }
  }

  static let msrReadback = Rule(
    "MSR-READBACK",
    "RDMSR and KVM_GET_MSRS return the last value written to the system-time MSR, all 64 bits, also of an address "
      + "that cannot be served; 0x12 and 0x4b564d01 are one value.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME; arch/x86/kvm/x86.c, kvm_get_msr_common()",
    method:
      "Write a fresh value through each MSR, on each vCPU; read it through both, as guest and as host.",
    scenarios: [.readback], faults: ["RDMSR of 0x4b564d01 clears bit 0", "… for the guest only"]
  ) { timeline in
    var findings = Findings()
    var written: [Int: (Hex, Event)] = [:]
    var readers: Set<String> = []
    func compare(_ vcpu: Int, _ msr: Hex, _ value: Hex, _ reader: String, _ event: Event) {
      guard MSR.isSystemTime(msr), let (expected, write) = written[vcpu] else { return }
      readers.insert("\(reader) \(msr)")
      findings.expect(
        value == expected, at: [write, event],
        "\(expected), the last value written on vcpu\(vcpu)",
        seen: "\(value) read by the \(reader) through \(msr)")
    }
    for event in timeline.history.events {
      switch (event.action, event.actor) {
      case (.wroteMSR(let msr, let value, let fault), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
        findings.expect(
          fault == nil, at: [event], "no fault from a write of \(value) to \(msr)",
          seen: "exception vector \(fault?.vector ?? 0)")
        if fault == nil { written[vcpu] = (value, event) }
      case (.vmCreated, _): written = [:]
      case (.readMSR(let msr, let value, nil), .vcpu(let vcpu)):
        compare(vcpu, msr, value, "guest", event)
      case (.readMSR(let msr, _, let fault?), _) where MSR.isSystemTime(msr):
        findings.expect(
          false, at: [event], "no fault from a read of \(msr)",
          seen: "exception vector \(fault.vector)")
      case (.hostReadMSR(let vcpu, let msr, let value), _): compare(vcpu, msr, value, "host", event)
      case (.hostWroteMSR(let vcpu, let msr, let value), _) where MSR.isSystemTime(msr):
        written[vcpu] = (value, event)
      case (.replugged(let vcpu, _), _): written[vcpu] = nil
      default: continue
      }
    }
    guard readers.count == 4 || !findings.violations.isEmpty else {
      return .notTested(
        reason: "read through \(readers.sorted()), not both MSRs as guest and as host")
    }
    return findings.outcome(atLeast: 8, "writes and readings back", in: timeline)
  }
}

extension Findings {
  /// No write of a system-time MSR by a guest raised an exception.
  mutating func expectNoFault(in timeline: Timeline) {
    for event in timeline.history.events {
      guard case .wroteMSR(let msr, let value, let fault?) = event.action, MSR.isSystemTime(msr)
      else { continue }
      expect(
        false, at: [event], "no fault from a write of \(value) to \(msr)",
        seen: "exception vector \(fault.vector)")
    }
  }
}

extension Timeline {
  /// Each write of the system-time MSR that was followed by a clock read in the same entry.
  var writesWithRead: [(write: Event, read: Event)] {
    let events = history.events
    return zip(events, events.dropFirst()).filter { write, read in
      guard case .wroteMSR(let msr, let value, nil) = write.action, MSR.isSystemTime(msr),
        case .read(let address, _, _, _) = read.action
      else { return false }
      return write.actor == read.actor && write.began == read.began
        && address.value == value.value & ~1
    }.map { (write: $0.0, read: $0.1) }
  }

  /// How many events come before this one: the numbers rise, but for a history that somebody changed.
  private func place(of event: Event) -> Int {
    var (low, high) = (0, history.events.count)
    while low < high {
      let middle = (low + high) / 2
      if history.events[middle].number < event.number {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }

  /// Whether the bytes at `address` held a fill pattern that no host writes when `event` began.
  func wasFilled(_ address: Hex, count: Int = 32, before event: Event) -> Bool {
    let wanted = Interval(Int128(address.value), Int128(address.value) + Int128(count))
    let events = history.events
    for at in events[..<place(of: event)].indices.reversed() {
      switch events[at].action {
      case .vmCreated: return false
      case .filled(let start, let count, let byte):
        let filled = Interval(Int128(start.value), Int128(start.value) + Int128(count))
        guard filled.lower < wanted.upper, wanted.lower < filled.upper else { continue }
        return byte == 0xa5 && filled.lower <= wanted.lower && wanted.upper <= filled.upper
      case .wroteMSR(let msr, let value, nil) where MSR.isSystemTime(msr) && value.value & 1 == 1:
        let record = Int128(value.value & ~1)
        if record < wanted.upper, wanted.lower < record + 32 { return false }
      case .hostWroteMSR(_, let msr, let value) where MSR.isSystemTime(msr) && value.value & 1 == 1:
        let record = Int128(value.value & ~1)
        if record < wanted.upper, wanted.lower < record + 32 { return false }
      default: continue
      }
    }
    return false
  }

  /// The clock carries on across every event that `separates` names the vCPU of.
  func keepsTime(
    across what: String, atLeast minimum: Int, why: String, _ separates: (Event) -> Int?
  ) -> Outcome {
    var findings = Findings()
    for (before, separator, after) in readings(around: separates) {
      findings.expect(
        difference(after.value, before.value), in: allowedAdvance(from: before, to: after),
        limit: Self.widestUseful, at: [before.event, separator, after.event],
        "vcpu\(before.vcpu ?? 0)'s clock to go on from \(nanoseconds(Int128(before.value))) by an amount",
        why: why)
    }
    return findings.outcome(atLeast: minimum, what, in: self)
  }

  func entered(_ vcpu: Int, between earlier: Event, and later: Event) -> Bool {
    history.events.contains {
      $0.actor == .vcpu(vcpu) && $0.number > earlier.number && $0.number < later.number
    }
  }

  /// A record that its vCPU gave up by an MSR write that `revokes` keeps every byte over a setting of the clock and an
  /// entry of that vCPU, while some other record changes: proof that updates were made.
  func staysFrozen(_ what: String, _ revokes: (UInt64, UInt64) -> Bool) -> Outcome {
    var findings = Findings()
    var current: [Int: UInt64] = [:]
    var revoked: [Hex: Int] = [:]
    var lastPage: [Hex: Event] = [:]
    var settings = 0
    var settingsAt: [Hex: Int] = [:]
    var pairs: [(before: Event, after: Event, address: Hex, owner: Int, setting: Int)] = []
    var changedIn: Set<Int> = []
    for event in history.events {
      switch (event.action, event.actor) {
      case (.vmCreated, _): (current, revoked, lastPage, settingsAt) = ([:], [:], [:], [:])
      case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
        if let old = current[vcpu], revokes(old, value.value) {
          revoked[Hex(old & ~1)] = vcpu
          lastPage[Hex(old & ~1)] = nil
        }
        if value.value & 1 == 1 { revoked[Hex(value.value & ~1)] = nil }
        current[vcpu] = value.value
      case (.hostWroteMSR(let vcpu, let msr, let value), _) where MSR.isSystemTime(msr):
        if value.value & 1 == 1 { revoked[Hex(value.value & ~1)] = nil }
        current[vcpu] = value.value
      case (.setClock, _): settings += 1
      case (.page(_, let address, let page), _):
        if let before = lastPage[address], settingsAt[address] == settings - 1,
          case .page(_, _, let old) = before.action
        {
          if let owner = revoked[address] {
            pairs.append((before, event, address, owner, settings))
          }
          if old != page, revoked[address] == nil { changedIn.insert(settings) }
        }
        lastPage[address] = event
        settingsAt[address] = settings
      default: continue
      }
    }
    for pair in pairs {
      guard case .page(_, _, let old) = pair.before.action,
        case .page(_, _, let new) = pair.after.action
      else { continue }
      guard changedIn.contains(pair.setting) || old != new else {
        findings.lacks("no live record changed either, so nothing shows that updates were made")
        continue
      }
      guard old != new || entered(pair.owner, between: pair.before, and: pair.after) else {
        findings.lacks("vcpu\(pair.owner) was not entered after the clock was set")
        continue
      }
      findings.expect(
        old == new, at: [pair.before, pair.after],
        "the record at \(pair.address) as the guest left it: \(describe(old))", seen: describe(new))
    }
    return findings.outcome(what, in: self)
  }
}
