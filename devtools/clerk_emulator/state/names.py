"""Words that seeded objects are made of. Some names carry accents, apostrophes and other scripts on purpose."""

FIRST = (
    "Ada", "Alan", "Amélie", "Anouk", "Aisha", "Barbara", "Björn", "Carlos", "Chiara", "Claude", "Dmitri", "Edsger",
    "Elif", "Emeka", "Fatima", "Grace", "Hedy", "Ines", "Jürgen", "Kenji", "Katherine", "Lars", "Leïla", "Linus",
    "Mei", "Margaret", "Miguel", "Nadia", "Niklaus", "Noor", "Olga", "Owen", "Priya", "Radia", "Ravi", "Renée",
    "Siobhán", "Sofia", "Tariq", "Tomás", "Uma", "Vera", "Wanjiru", "Xin", "Yara", "Yuki", "Zoë", "李娜", "美咲",
    "Олена",
)  # fmt: skip

LAST = (
    "Lovelace", "Turing", "Dubois", "Van der Berg", "Khan", "Liskov", "Åkesson", "García", "Rossi", "Shannon",
    "Ivanov", "Dijkstra", "Demir", "Okafor", "Al-Fihri", "Hopper", "Lamarr", "Silva", "Müller", "Tanaka", "Johnson",
    "Nielsen", "Benali", "Torvalds", "Chen", "Hamilton", "Hernández", "Popescu", "Wirth", "El-Amin", "Petrova",
    "O'Brien", "Sharma", "Perlman", "Patel", "Lefèvre", "Ní Dhomhnaill", "Kowalska", "Haddad", "Novák", "Iyer", "Rubin",
    "Mwangi", "Li", "Nasser", "Sato", "Brontë", "王", "佐藤", "Шевченко",
)  # fmt: skip

COMPANY = (
    "Acorn", "Beacon", "Cobalt", "Drift", "Ember", "Fathom", "Granite", "Harbor", "Indigo", "Juniper", "Kestrel",
    "Lantern", "Meridian", "Nimbus", "Orchard", "Pinnacle", "Quartz", "Ripple", "Summit", "Timber", "Umbra", "Vertex",
    "Willow", "Xenon", "Yonder", "Zephyr",
)  # fmt: skip

TRADE = ("Analytics", "Bikes", "Coffee", "Design", "Energy", "Foods", "Games", "Health", "Labs", "Travel")
DOMAIN = ("example.com", "example.org", "example.net", "mail.example.com", "post.example.org")
PLAN = ("free", "pro", "team", "enterprise")
LOCALE = (None, None, "en-US", "de-DE", "fr-FR", "ja-JP", "pt-BR")
ROLES = ("org:admin", "org:member", "org:member", "org:member", "org:member")
