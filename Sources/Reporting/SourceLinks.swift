/// A piece of a text, and the address of the document, commit or file that it names.
struct LinkedPiece: Hashable, Sendable {
  var text: String
  var address: String?

  /// Headings of api.rst that have more in them than one name.
  private static let headings = [
    "KVM_GET_DIRTY_LOG": "kvm-get-dirty-log-vm-ioctl",
    "KVM_GET_MSR_INDEX_LIST": "kvm-get-msr-index-list-kvm-get-msr-feature-index-list",
    "KVM_SET_DEVICE_ATTR": "kvm-set-device-attr-kvm-get-device-attr",
    "KVM_CAP_DIRTY_LOG_RING": "kvm-cap-dirty-log-ring-kvm-cap-dirty-log-ring-acq-rel",
  ]

  /// The whole of a text, with addresses for what it names of Linux.
  static func pieces(of text: String) -> [LinkedPiece] {
    // The section of api.rst is part of the match: its page is too long to be searched by hand.
    let names =
      #/
      Documentation/(?<document>[a-z0-9/_-]+)\.rst
        (?:,\ [0-9]+\.[0-9]+\ (?<section>KVM_[A-Z0-9_]+))?
      | Linux\ (?<commit>[0-9a-f]{10,40})\b
      | \b(?<file>arch/x86/[a-z0-9/_-]+\.[ch])\b
      /#
    var pieces: [LinkedPiece] = []
    var start = text.startIndex
    for match in text.matches(of: names) {
      let address: String
      if let document = match.document {
        let section = match.section.map { name in
          "#" + (headings[String(name)] ?? name.lowercased().replacing("_", with: "-"))
        }
        address = "https://docs.kernel.org/\(document).html\(section ?? "")"
      } else if let commit = match.commit {
        address = "https://git.kernel.org/linus/\(commit)"
      } else {
        address =
          "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/\(match.file ?? "")"
      }
      if start < match.range.lowerBound {
        pieces.append(LinkedPiece(text: String(text[start..<match.range.lowerBound])))
      }
      pieces.append(LinkedPiece(text: String(text[match.range]), address: address))
      start = match.range.upperBound
    }
    if start < text.endIndex { pieces.append(LinkedPiece(text: String(text[start...]))) }
    return pieces
  }
}

extension HTML {
  /// A text with links to what it names of Linux.
  static func linked(_ text: String) -> HTML {
    LinkedPiece.pieces(of: text).map { piece -> HTML in
      piece.address.map { "<a href=\"\($0)\">\(piece.text)</a>" } ?? "\(piece.text)"
    }.joined()
  }
}

extension Markdown {
  /// A text with links to what it names of Linux.
  static func linked(_ text: String) -> Markdown {
    LinkedPiece.pieces(of: text).map { piece -> Markdown in
      piece.address.map { "[\(piece.text)](\(Markdown(stringLiteral: $0)))" } ?? "\(piece.text)"
    }.joined()
  }
}
