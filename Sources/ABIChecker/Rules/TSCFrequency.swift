internal import PVClock

// KVM_SET_TSC_KHZ and KVM_GET_TSC_KHZ.

extension Rule {
  static let tscFrequency: [Rule] = [
    .tscKHzRoundtrip, .tscKHzToleranceMul, .tscKHzFailNoChange, .tscKHzUpscale, .tscKHzVMScope,
  ]

  private static let setTSCKHz = Source.api("4.55 KVM_SET_TSC_KHZ")

  static let tscKHzRoundtrip = Rule(
    "TSCKHZ-ROUNDTRIP",
    "KVM_GET_TSC_KHZ returns the frequency that KVM_SET_TSC_KHZ accepted.",
    sources: [setTSCKHz, .api("4.56 KVM_GET_TSC_KHZ")],
    method: "Set frequencies up to 231 ppm from the host's, and twice the host's; get.",
    scenarios: [.tscFrequency],
    coverage: [
      .observations(4, "frequencies set and got"), .different(3, "frequencies"),
    ]
  ) { timeline, findings in
    for request in timeline.tscFrequencies where request.error == nil {
      guard let after = request.after else { continue }
      findings.cover("\(request.kHz) kHz", of: "frequencies")
      findings.expect(
        after.kHz == request.kHz, at: [request.event, after.event],
        "KVM_GET_TSC_KHZ to return \(request.kHz) kHz", seen: "\(after.kHz) kHz")
    }
  }

  static let tscKHzToleranceMul = Rule(
    "TSCKHZ-TOLERANCE-MUL",
    "A TSC frequency within tsc_tolerance_ppm of the host's is accepted without scaling: the guest's TSC goes on at the "
      + "host's rate, and multiplier and shift stay those of the host's frequency.",
    sources: [
      .x86("kvm_set_tsc_khz(), tsc_tolerance_ppm"),
      .msr("MSR_KVM_SYSTEM_TIME_NEW (tsc_to_system_mul and tsc_shift convert the TSC)"),
    ],
    method:
      "Set frequencies 100 and 231 ppm above and below the host's; the guest registers again and reads; compare its TSC "
      + "with the host's, within the brackets of the readings, and its record with the host's frequency.",
    scenarios: [.tscFrequency],
    coverage: [
      .observations(8, "frequencies, and records and TSCs after them"),
      .different(3, "frequencies with a record and the TSC after them"),
    ]
  ) { timeline, findings in
    let tolerance = timeline.capability("tsc_tolerance_ppm").map { Int128($0) }
    for request in timeline.tscFrequencies {
      guard let tolerance, let host = timeline.history.header.host.tscKHz, request.before != nil
      else {
        findings.lacks("the module parameter tsc_tolerance_ppm can't be read")
        continue
      }
      // The kernel rounds the ends of the band to whole kHz.
      let off = abs(Int128(request.kHz) - Int128(host))
      guard (off + 1) * 1_000_000 <= tolerance * Int128(host) else {
        findings.lacks(
          "\(request.kHz) kHz is not within tsc_tolerance_ppm, \(tolerance), of \(host) kHz")
        continue
      }
      findings.expect(
        request.error == nil, at: [request.event],
        "\(request.kHz) kHz to be accepted: the host's TSC runs at \(host) kHz",
        seen: "KVM_SET_TSC_KHZ failed with \(request.error?.description ?? "")")
      guard request.error == nil, request.after != nil else { continue }
      findings.expectHostRate(of: host, after: request)
    }
  }

  static let tscKHzFailNoChange = Rule(
    "TSCKHZ-FAIL-NOCHANGE",
    "A KVM_SET_TSC_KHZ that fails does not change the frequency that KVM_GET_TSC_KHZ returns.",
    sources: [setTSCKHz, .api("4.56 KVM_GET_TSC_KHZ")],
    method: "Ask for half the host's frequency, which fails without TSC scaling; get.",
    scenarios: [.tscFrequency],
    coverage: [.observations(1, "refused frequencies")]
  ) { timeline, findings in
    for request in timeline.tscFrequencies {
      guard let before = request.before, let after = request.after else { continue }
      guard let error = request.error else {
        if request.kHz < before.kHz / 4 * 3 {
          findings.lacks(
            "KVM_SET_TSC_KHZ accepted \(request.kHz) kHz: this host scales the TSC")
        }
        continue
      }
      findings.expect(
        after.kHz == before.kHz, at: [before.event, request.event, after.event],
        "\(before.kHz) kHz as before KVM_SET_TSC_KHZ to \(request.kHz) kHz, which failed with \(error)",
        seen: "\(after.kHz) kHz")
    }
  }

  static let tscKHzUpscale = Rule(
    "TSCKHZ-UPSCALE",
    "A frequency above the host's that is accepted without TSC scaling is the rate at which the guest's TSC then runs "
      + "from entry to entry, and kvmclock stays right.",
    sources: [setTSCKHz],
    method:
      "Ask for twice the host's frequency; the guest reads twice, some milliseconds apart; compare its TSC and its clock "
      + "with CLOCK_MONOTONIC_RAW.",
    scenarios: [.tscFrequency],
    coverage: [
      .observations(3, "rates of the TSC and advances of the clock"),
      .count(1, "rates of the TSC"), .count(1, "advances of the clock"),
    ]
  ) { timeline, findings in
    guard timeline.capability("KVM_CAP_TSC_CONTROL") == 0 else {
      findings.lacks(
        timeline.capability("KVM_CAP_TSC_CONTROL").map {
          "this host scales the TSC: KVM_CAP_TSC_CONTROL is \($0)"
        } ?? timeline.lacking ?? "KVM_CAP_TSC_CONTROL was not asked for")
      return
    }
    for request in timeline.tscFrequencies {
      guard let before = request.before, Int128(request.kHz) > Int128(before.kHz) * 5 / 4
      else { continue }
      guard request.error == nil else {
        findings.lacks(
          "KVM_SET_TSC_KHZ refused \(request.kHz) kHz: \(request.error?.description ?? "")")
        continue
      }
      findings.expectUpscaled(from: before.kHz, after: request, in: timeline)
    }
  }

  static let tscKHzVMScope = Rule(
    "TSCKHZ-VM-SCOPE",
    "KVM_SET_TSC_KHZ of a VM sets the frequency of vCPUs made later, and fails once there is a vCPU.",
    sources: [setTSCKHz, .commit("Linux dcbe5a466c12 (6.17)")],
    method: "Set it on a VM without vCPUs, make one, get its frequency, set it on the VM again.",
    scenarios: [.tscFrequency],
    coverage: [
      .observations(3, "settings of a VM's TSC frequency, and vCPUs made after them"),
      .each(["without vCPUs", "with a vCPU"], "VMs"),
      .count(1, "vCPUs made after a setting"),
    ],
    needs: [.vmTSCFrequency]
  ) { timeline, findings in
    guard let capability = timeline.capability("KVM_CAP_VM_TSC_CONTROL"), capability > 0 else {
      findings.lacks(
        "KVM_CAP_VM_TSC_CONTROL is \(timeline.capability("KVM_CAP_VM_TSC_CONTROL") ?? 0)")
      return
    }
    for machine in timeline.machines {
      var accepted: (event: Event, kHz: UInt32)?
      for step in machine.steps {
        switch step.event.action {
        case .setTSCKHz(nil, let kHz, let error):
          let isLate = step.machine.vcpus > 0
          findings.cover(isLate ? "with a vCPU" : "without vCPUs", of: "VMs")
          findings.expect(
            (error != nil) == isLate, at: [step.event],
            "KVM_SET_TSC_KHZ of a VM \(isLate ? "with a vCPU to fail" : "without vCPUs to succeed")",
            seen: error.map { "it failed with \($0)" } ?? "it succeeded")
          if error == nil, !isLate { accepted = (step.event, kHz) }
        case .setTSCKHz(_?, _, _): accepted = nil
        case .tscKHz(let vcpu, let kHz):
          guard let (set, wanted) = accepted else { continue }
          findings.count("vCPUs made after a setting")
          findings.expect(
            kHz == wanted, at: [set, step.event], "vcpu\(vcpu)'s frequency to be \(wanted) kHz",
            seen: "\(kHz) kHz")
        default: continue
        }
      }
    }
  }
}

/// What KVM_GET_TSC_KHZ of a vCPU returned.
private struct Frequency {
  let event: Event
  let kHz: UInt32
}

/// KVM_SET_TSC_KHZ of a vCPU, with KVM_GET_TSC_KHZ before and after it.
private struct FrequencyRequest {
  let event: Event
  let kHz: UInt32
  let error: Errno?
  let before: Frequency?
  var after: Frequency?
  /// The vCPU's readings until its frequency is set again, from records that were certainly made after this setting.
  var readings: [Observation] = []
}

extension Timeline {
  /// The value of a capability, or of a module's parameter.
  func capability(_ name: String) -> Int32? {
    for event in history.events {
      if case .capability(name, let value) = event.action { return value }
    }
    return nil
  }

  fileprivate var tscFrequencies: [FrequencyRequest] { machines.flatMap(\.tscFrequencies) }
}

extension MachineRun {
  fileprivate var tscFrequencies: [FrequencyRequest] {
    var requests: [FrequencyRequest] = []
    var last: [Int: Frequency] = [:]
    var open: [Int: Int] = [:]
    for step in steps {
      guard let vcpu = step.vcpu else { continue }
      switch step.event.action {
      case .setTSCKHz(_, let kHz, let error):
        open[vcpu] = requests.count
        requests.append(
          FrequencyRequest(event: step.event, kHz: kHz, error: error, before: last[vcpu]))
        last[vcpu] = nil
      case .tscKHz(_, let kHz):
        let frequency = Frequency(event: step.event, kHz: kHz)
        if let at = open[vcpu], requests[at].after == nil { requests[at].after = frequency }
        last[vcpu] = frequency
      default:
        if let at = open[vcpu] { requests[at].readings += step.observations }
      }
    }
    return requests
  }
}

extension Findings {
  fileprivate mutating func expectHostRate(of host: UInt32, after request: FrequencyRequest) {
    let readings = request.readings.filter { $0.tsc != nil }
    let expected = TSCScale(tscKHz: host)
    for reading in readings {
      guard let page = reading.page else { continue }
      expect(
        page.scale == expected, at: [request.event, reading.event],
        "tsc_to_system_mul \(Hex(expected.multiplier)) and tsc_shift \(expected.shift) for the host's \(host) kHz, "
          + "not for the \(request.kHz) kHz asked for",
        seen: "tsc_to_system_mul \(Hex(page.tscToSystemMultiplier)) and tsc_shift \(page.tscShift)")
    }
    guard let first = readings.first, let last = readings.last, first.index < last.index,
      let shift = first.tscShift(to: last)
    else { return }
    cover("\(request.kHz) kHz", of: "frequencies with a record and the TSC after them")
    let elapsed = first.event.elapsed(to: last.event)
    expect(
      shift.contains(0), at: [first.event, last.event],
      "the guest's TSC to go on at the host's rate for \(nanoseconds(elapsed.lower))",
      seen: "\(shift.lower) to \(shift.upper) cycles between the two")
  }

  fileprivate mutating func expectUpscaled(
    from host: UInt32, after request: FrequencyRequest, in timeline: Timeline
  ) {
    let readings = request.readings
    for (before, after) in zip(readings, readings.dropFirst()) {
      if expectAdvance(from: before, to: after, over: [request.event], in: timeline) {
        count("advances of the clock")
      }
    }
    guard let first = readings.first, let last = readings.last, first.index < last.index,
      let from = first.tsc, let to = last.tsc
    else { return }
    let elapsed = first.event.elapsed(to: last.event)
    let slack = share(timeline.rateBound + 250, of: elapsed.upper) + timeline.rounding
    let allowed = Interval(elapsed.lower - slack, elapsed.upper + slack)
    func counted(at kHz: UInt32) -> Int128 { difference(to, from) * 1_000_000 / Int128(kHz) }
    // The known deviation leaves the TSC at the host's rate.
    let isRate = expect(
      counted(at: request.kHz), in: allowed, limit: elapsed.lower / 4,
      at: [request.event, first.event, last.event],
      "the time that the guest's TSC counts at the \(request.kHz) kHz asked for",
      why: "the time that CLOCK_MONOTONIC_RAW counted between the two readings",
      fits: host > 0 && allowed.contains(counted(at: host)))
    if isRate { count("rates of the TSC") }
  }
}
