"""What a server may be surrounded by: folders with odd names, proxies that do not exist."""

EVERYTHING = "-a b'c\"d\\e%41%s?f=1&g#h;i,[red]j[b]${HOME}*~\n\tü日🖼"
"""A directory name with everything in it that means something to a shell, a URL, a template or a terminal."""

DEAD_PROXIES = {
    "http_proxy": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "all_proxy": "socks5://127.0.0.1:9",
    "ALL_PROXY": "nonsense://127.0.0.1:9",
}
