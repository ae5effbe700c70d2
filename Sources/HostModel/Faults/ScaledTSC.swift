internal import ABIChecker
internal import PVClock

extension Fault {
  static let scaledTSC: [Fault] = [
    Fault(
      "TUNED-2-PERCENT-SLOW", breaks: ["SCALED-TSC-COUNTS"], also: ["SCALED-MULSHIFT"],
      because:
        "where the brackets do not tell the two rates apart, the record is not that of the one asked for",
      "a guest's TSC counts 2 % slower than at the frequency that was accepted"
    ) {
      $0.tuned = { clock, vcpu, kHz in clock.vcpus[vcpu]!.scaling = clock.rate(kHz - kHz / 50) }
    },
    Fault(
      "SCALED-RECORD-10-KHZ-OFF", breaks: ["SCALED-MULSHIFT", "SCALED-GETCLOCK-IS-GUEST-VIEW"],
      "the record's multiplier is for 10 kHz less than the guest's TSC has"
    ) { $0.record = Self.rescale { $0 - 10 } },
    Fault(
      "SCALED-WHOLE-KHZ", breaks: ["SCALED-GETCLOCK-IS-GUEST-VIEW"],
      "KVM_GET_CLOCK converts the host's TSC, and the record's multiplier is for 1 kHz less than the guest's TSC has: Linux up to 7.3"
    ) { $0.record = Self.rescale { $0 - 1 } },
    Fault(
      "SCALED-RECORD-OF-HOST", breaks: ["SCALED-KEEPS-TIME", "SCALED-MIGRATION"],
      also: [
        "SCALED-MULSHIFT", "SCALED-GETCLOCK-IS-GUEST-VIEW", "TSCKHZ-KEEPS-TIME", "TSCKHZ-MIGRATION",
        "SCALED-CHANGE-KEEPS-TIME", "CLOCK-BRACKET", "SETCLOCK-SETS-ALL-VCPUS", "MONO-CROSS-VCPU",
        "MONO-VCPU", "SYSTIME-REWRITE-KEEPS-TIME",
      ],
      because: "every reading is off by the ratio of the two rates",
      "the record of a scaled TSC has the multiplier of the host's: no kvm_scale_tsc() in kvm_guest_time_update()"
    ) {
      $0.record = { clock, vcpu, _, record in
        guard clock.vcpus[vcpu]!.scaling != nil else { return }
        record.tscToSystemMultiplier = clock.scale.multiplier
        record.tscShift = clock.scale.shift
      }
    },
    Fault(
      "SCALED-NO-NEW-RECORD", breaks: ["SCALED-CHANGE-KEEPS-TIME"],
      "KVM_SET_TSC_KHZ asks for no new record: set_tsc_khz() of Linux up to 7.3"
    ) { $0.tuned = { clock, vcpu, _ in clock.vcpus[vcpu]!.needsRecord = false } },
    Fault(
      "TUNED-STARTS-AGAIN", breaks: ["TSCKHZ-KEEPS-TIME", "TSCKHZ-MIGRATION"],
      also: [
        "SCALED-KEEPS-TIME", "SCALED-MIGRATION", "SETCLOCK-SETS-ALL-VCPUS",
        "SCALED-CHANGE-KEEPS-TIME",
      ],
      because: "a frequency that is scaled is one that was set",
      "KVM_SET_CLOCK of a VM whose TSC frequency was set loses a second"
    ) {
      $0.tuned = { clock, _, _ in clock.memo[0] = 1 }
      $0.set = { clock, data in
        if clock.memo[0] == 1 { data.clock &-= 1_000_000_000 }
        return false
      }
    },
  ]

  /// Records of scaled TSCs, made for another frequency.
  private static func rescale(
    _ change: @escaping @Sendable (UInt32) -> UInt32
  ) -> @Sendable (inout VMClock, Int, ClockPage, inout ClockPage) -> Void {
    { clock, vcpu, _, record in
      guard let rate = clock.vcpus[vcpu]!.scaling else { return }
      let scale = TSCScale(tscKHz: change(rate.kHz))
      record.tscToSystemMultiplier = scale.multiplier
      record.tscShift = scale.shift
    }
  }
}
