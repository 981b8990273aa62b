"""Drafts meet the world: layouts of others, engines that serve them, and the doctor for those that are accepted too little."""
